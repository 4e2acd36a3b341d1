//! A session that writes one transaction while the events of the next are taken in.

use sqlx::PgConnection;
use tokio_util::task::AbortOnDropHandle;

use super::{
    error::ViewError,
    folder::{Committed, Folder},
    write::Writes,
};

pub struct Behind {
    /// Away while it writes.
    connection: Option<PgConnection>,
    writing: Option<AbortOnDropHandle<Written>>,
}

type Written = (PgConnection, Writes, Result<(), ViewError>);

impl Behind {
    pub fn new(connection: PgConnection) -> Self {
        Self { connection: Some(connection), writing: None }
    }

    /// Waits until what was begun is written, and tells the folder.
    pub async fn done(&mut self, folder: &mut Folder) -> Result<(), ViewError> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let (connection, writes, result) =
            writing.await.map_err(|error| ViewError::Panicked(error.to_string()))?;
        self.connection = Some(connection);
        result?;
        folder.committed(&writes);
        Ok(())
    }

    /// Begins to write what the folder has taken in; what was begun before is done first.
    pub async fn begin(&mut self, folder: &mut Folder) -> Result<Committed, ViewError> {
        self.done(folder).await?;
        let (writes, committed) = folder.prepare()?;
        // The connection is here, because nothing is being written.
        if let (Some(writes), Some(mut connection)) = (writes, self.connection.take()) {
            self.writing = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                let result = writes.commit(&mut connection).await;
                (connection, writes, result)
            })));
        }
        Ok(committed)
    }
}
