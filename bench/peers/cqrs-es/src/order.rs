//! An order that is placed, once, by an account that is registered.

use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{Aggregate, AggregateContext as _, AggregateError, DomainEvent, EventStore as _};
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::{Account, Refused as AccountRefused};

/// The events of the accounts, from which an account is folded when one of its orders is placed.
pub type Accounts = PersistedEventStore<PostgresEventRepository, Account>;

#[derive(Default, Serialize, Deserialize)]
pub struct Order {
    is_placed: bool,
}

#[derive(Deserialize)]
pub struct Place {
    account_id: Uuid,
    quantity: u32,
    amount_cents: u64,
    currency: Currency,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Currency {
    Eur,
    Gbp,
    Usd,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OrderEvent {
    Placed { account_id: Uuid, quantity: u32, amount_cents: u64, currency: Currency },
}

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        "order.placed".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the order is already placed")]
    AlreadyPlaced,
    #[error("only an active account can place an order")]
    AccountNotActive,
    #[error("the account cannot be read: {0}")]
    Unreadable(#[from] AggregateError<AccountRefused>),
}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = Place;
    type Event = OrderEvent;
    type Error = Refused;
    type Services = Accounts;

    async fn handle(
        &mut self,
        command: Place,
        accounts: &Accounts,
        sink: &EventSink<Self>,
    ) -> Result<(), Refused> {
        if self.is_placed {
            return Err(Refused::AlreadyPlaced);
        }
        let Place { account_id, quantity, amount_cents, currency } = command;
        let mut account = accounts.load_aggregate(&account_id.to_string()).await?;
        if !account.aggregate().is_registered {
            return Err(Refused::AccountNotActive);
        }
        sink.write(OrderEvent::Placed { account_id, quantity, amount_cents, currency }, self).await;
        Ok(())
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { .. } => self.is_placed = true,
        }
    }
}
