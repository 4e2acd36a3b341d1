//! A view as a table: folded from the log when a query first reads it, and then in memory.

use std::{fmt, sync::Arc};

use anyhow::Result;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::{
    catalog::{Session, TableProvider},
    datasource::MemTable,
    error::Result as Planned,
    execution::memory_pool::{MemoryConsumer, MemoryReservation},
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};
use domain::view::Definition;
use tokio::sync::OnceCell;

use super::{Snapshot, events::external};
use crate::view::{self, Folding};

pub struct ViewTable {
    snapshot: Snapshot,
    definition: &'static Definition,
    schema: SchemaRef,
    /// Its rows, and the memory that they were granted.
    folded: OnceCell<(MemTable, MemoryReservation)>,
}

impl ViewTable {
    pub fn new(snapshot: Snapshot, definition: &'static Definition) -> Result<Self> {
        let (schema, _) = view::table(definition, Vec::new())?;
        let schema = snapshot.privacy.plan(&schema).schema;
        Ok(Self { snapshot, definition, schema, folded: OnceCell::new() })
    }

    async fn fold(&self) -> Result<Vec<RecordBatch>> {
        let Snapshot { source, as_of, privacy, .. } = &self.snapshot;
        let mut folding = Folding::new(source, self.definition, &|_| {}).await?;
        folding.up_to(Some(*as_of)).await?;
        let (schema, batches) = view::table(self.definition, folding.rows()?)?;
        let plan = privacy.plan(&schema);
        batches.into_iter().map(|batch| plan.apply(batch)).collect()
    }

    async fn in_memory(&self, state: &dyn Session) -> Planned<(MemTable, MemoryReservation)> {
        let batches = self.fold().await.map_err(external)?;
        let pool = &state.runtime_env().memory_pool;
        let granted = MemoryConsumer::new(format!("the rows of {}", self.definition.name)).register(pool);
        granted.try_grow(batches.iter().map(RecordBatch::get_array_memory_size).sum())?;
        Ok((MemTable::try_new(self.schema.clone(), vec![batches])?, granted))
    }
}

#[async_trait::async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        let (table, _) = self.folded.get_or_try_init(|| self.in_memory(state)).await?;
        table.scan(state, projection, filters, limit).await
    }
}

impl fmt::Debug for ViewTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewTable({})", self.definition.name)
    }
}
