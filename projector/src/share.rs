//! Which views this projector folds, where several run: each takes its share, so that the work is spread.
//!
//! Every session that folds a view, or waits to, holds a shared lock that says so; counting those tells how
//! many projectors there are for the view. Who would fold one more and finds it taken holds another, so that
//! nobody gives up a view that nobody takes. No projector has to know another.

use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::view::ViewError;

/// What this projector holds of the views.
#[derive(Debug)]
pub struct Share {
    /// Tells this projector from others, within Postgres's lock numbers.
    me: i32,
    views: usize,
    held: AtomicUsize,
}

/// One view that this projector folds, or is about to. Dropping it gives it up.
#[derive(Debug)]
pub struct Place<'a>(&'a Share);

/// The first half of the lock's number: the view. The second is the projector.
const LOCK_CLASS: &str = "hashtext('headwater projectors ' || $1)";
const WANTED_CLASS: &str = "hashtext('headwater view wanted ' || $1)";

impl Share {
    /// Of `views` views.
    pub fn of(views: usize) -> Self {
        // Any 32 bits that are random in an id will do.
        let me = Uuid::now_v7().as_u128() as i32;
        Self { me, views, held: AtomicUsize::new(0) }
    }

    /// Says to all projectors that there is one more for the view, as long as the session lasts.
    pub async fn announce(&self, connection: &mut PgConnection, view: &str) -> Result<(), ViewError> {
        let lock = format!("select pg_advisory_lock_shared({LOCK_CLASS}, $2)");
        sqlx::query(sqlx::AssertSqlSafe(lock)).bind(view).bind(self.me).execute(connection).await?;
        Ok(())
    }

    /// How many views this projector is to fold at the most, as far as one view's projectors tell; none if it
    /// is the view's only one.
    pub async fn fair(&self, connection: &mut PgConnection, view: &str) -> Result<Option<usize>, ViewError> {
        let count = format!(
            "select count(distinct objid) from pg_locks, (select {LOCK_CLASS} as class) as lock
             where locktype = 'advisory' and objsubid = 2 and granted and mode = 'ShareLock'
               and database = (select oid from pg_database where datname = current_database())
               and classid::bigint = (lock.class::bigint & 4294967295)"
        );
        let projectors: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(count)).bind(view).fetch_one(connection).await?;
        let projectors = usize::try_from(projectors).unwrap_or(1);
        Ok((projectors > 1).then(|| self.views.div_ceil(projectors)))
    }

    /// Says to the projector that folds the view that this one would, or no longer would; the latter only after
    /// the former. It does not outlast the session.
    pub async fn want(
        &self,
        connection: &mut PgConnection,
        view: &str,
        wants: bool,
    ) -> Result<(), ViewError> {
        let lock = if wants { "pg_advisory_lock_shared" } else { "pg_advisory_unlock_shared" };
        let lock = format!("select {lock}({WANTED_CLASS}, $2)");
        sqlx::query(sqlx::AssertSqlSafe(lock)).bind(view).bind(self.me).execute(connection).await?;
        Ok(())
    }

    /// Whether another projector would fold the view.
    pub async fn is_wanted(&self, connection: &mut PgConnection, view: &str) -> Result<bool, ViewError> {
        let wanted = format!(
            "select exists (
                 select from pg_locks, (select {WANTED_CLASS} as class) as lock
                 where locktype = 'advisory' and objsubid = 2 and granted and mode = 'ShareLock'
                   and database = (select oid from pg_database where datname = current_database())
                   and classid::bigint = (lock.class::bigint & 4294967295)
                   and objid::bigint <> ($2::bigint & 4294967295)
             )"
        );
        let wanted = sqlx::query_scalar(sqlx::AssertSqlSafe(wanted)).bind(view).bind(self.me);
        Ok(wanted.fetch_one(connection).await?)
    }

    /// A place for one more view, if fewer than `most` are held.
    pub fn take(&self, most: usize) -> Option<Place<'_>> {
        let more = |held: usize| (held < most).then_some(held + 1);
        let taken = self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.ok().map(|_| Place(self))
    }

    /// A place in any case.
    pub fn insist(&self) -> Place<'_> {
        self.held.fetch_add(1, Ordering::AcqRel);
        Place(self)
    }
}

impl Place<'_> {
    /// Gives the place up if there are more than `fair`; of several that ask at once, no more than need to go.
    pub fn give_up_surplus(self, fair: usize) -> Result<(), Self> {
        let less = |held: usize| (held > fair).then(|| held - 1);
        match self.0.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) {
            Ok(_) => {
                std::mem::forget(self);
                Ok(())
            }
            Err(_) => Err(self),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_share_is_taken_and_no_more_than_the_surplus_given_up() {
        let share = Share::of(4);
        let places: Vec<Place<'_>> = std::iter::from_fn(|| share.take(3)).collect();
        assert_eq!(places.len(), 3);
        let kept: Vec<Place<'_>> =
            places.into_iter().filter_map(|place| place.give_up_surplus(2).err()).collect();
        assert_eq!((kept.len(), share.held.load(Ordering::Relaxed)), (2, 2));
        drop(kept);
        assert_eq!(share.held.load(Ordering::Relaxed), 0);
    }
}
