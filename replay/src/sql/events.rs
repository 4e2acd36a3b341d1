//! The events of one type as a table that is read from the log while the query runs.

use std::{fmt, sync::Arc};

use anyhow::Result;
use arrow_array::RecordBatch;
use arrow_schema::{SchemaRef, SortOptions};
use datafusion::{
    catalog::{Session, TableProvider},
    error::{DataFusionError, Result as Planned},
    execution::TaskContext,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions::Column},
    physical_plan::{
        ExecutionPlan, SendableRecordBatchStream,
        stream::RecordBatchReceiverStream,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use tokio::sync::mpsc::Sender;

use super::{Snapshot, stretch::Stretch};
use crate::{
    event_table::{EventTable, EventType},
    moment,
    reading::{Events, recorded},
};

/// Batches that are read before they are wanted.
const BATCHES_AHEAD: usize = 2;

pub struct EventsTable {
    snapshot: Snapshot,
    event_type: Arc<EventType>,
    schema: SchemaRef,
    /// The numbers that its columns have in an [`EventTable`] with all of them.
    columns: Vec<usize>,
}

impl EventsTable {
    pub fn new(snapshot: Snapshot, event_type: EventType) -> Result<Self> {
        let plan = snapshot.privacy.plan(&EventTable::new(&event_type)?.schema);
        let (schema, columns) = (plan.schema.clone(), plan.kept());
        Ok(Self { snapshot, event_type: Arc::new(event_type), schema, columns })
    }

    /// A scan of these columns alone.
    fn plan(&self, asked: &[usize], stretch: Stretch, limit: Option<usize>) -> Planned<StreamingTableExec> {
        let mut made: Vec<usize> = asked.iter().map(|column| self.columns[*column]).collect();
        made.sort_unstable();
        made.dedup();
        let order = asked.iter().map(|column| made.partition_point(|other| *other < self.columns[*column]));
        let order: Vec<usize> = order.collect();
        let scan =
            Scan::new(self.snapshot.clone(), self.event_type.clone(), made, stretch).map_err(external)?;
        let schema = scan.schema.clone();
        let position = asked.iter().position(|column| self.schema.field(*column).name() == "position");
        let ordering = position.and_then(|index| {
            let options = SortOptions { descending: false, nulls_first: false };
            LexOrdering::new([PhysicalSortExpr::new(Arc::new(Column::new("position", index)), options)])
        });
        StreamingTableExec::try_new(schema, vec![Arc::new(scan)], Some(&order), ordering, false, limit)
    }
}

#[async_trait::async_trait]
impl TableProvider for EventsTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Planned<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match Stretch::of_condition(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        Ok(Arc::new(self.plan(projection.unwrap_or(&all), Stretch::of(filters), limit)?))
    }
}

impl fmt::Debug for EventsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventsTable({})", self.event_type.name)
    }
}

/// One reading of the log for one table.
#[derive(Clone)]
struct Scan {
    snapshot: Snapshot,
    event_type: Arc<EventType>,
    columns: Vec<usize>,
    stretch: Stretch,
    schema: SchemaRef,
}

impl Scan {
    fn new(
        snapshot: Snapshot,
        event_type: Arc<EventType>,
        columns: Vec<usize>,
        stretch: Stretch,
    ) -> Result<Self> {
        let table = EventTable::some_of(&event_type, |column| columns.contains(&column))?;
        let schema = snapshot.privacy.plan(&table.schema).schema;
        Ok(Self { snapshot, event_type, columns, stretch, schema })
    }

    async fn run(self, batches: Sender<Planned<RecordBatch>>) -> Result<()> {
        let Self { snapshot, event_type, columns, stretch, .. } = self;
        let mut table = EventTable::some_of(&event_type, |column| columns.contains(&column))?;
        let plan = snapshot.privacy.plan(&table.schema);
        let mut events = Events::from(&snapshot.source, stretch.begin()).await?;
        while let Some(envelope) = events.up_to(snapshot.end).await? {
            if moment::is_beyond(snapshot.as_of, &envelope) || stretch.is_over(&envelope) {
                break;
            }
            if envelope.r#type != event_type.name {
                continue;
            }
            if let Some(batch) = table.push(&envelope, &recorded(&envelope)?)? {
                // Nobody wants more: the query has all that it needs.
                if batches.send(Ok(plan.apply(batch)?)).await.is_err() {
                    return Ok(());
                }
            }
        }
        if let Some(batch) = table.take()? {
            let _ = batches.send(Ok(plan.apply(batch)?)).await;
        }
        Ok(())
    }
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStream::builder(self.schema.clone(), BATCHES_AHEAD);
        let (scan, batches) = (self.clone(), stream.tx());
        stream.spawn(async move { scan.run(batches).await.map_err(external) });
        stream.build()
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.event_type.name, self.stretch)
    }
}

/// One of our errors on its way through the engine.
pub fn external(error: anyhow::Error) -> DataFusionError {
    DataFusionError::External(error.into())
}
