//! SQL over the log, without files in between: a table for each event type and for each view, all as of one moment.
//!
//! The engine is DataFusion. It is given nothing that reads or writes anything else: no file formats, no object stores,
//! no statements but queries.

mod events;
mod stretch;
mod trouble;
mod views;

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::{
    catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, TableProvider},
    common::TableReference,
    dataframe::DataFrame,
    execution::{
        SessionStateBuilder, SessionStateDefaults as Defaults,
        context::{SQLOptions, SessionContext},
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        object_store::ObjectStoreUrl,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
        session_state::SessionState,
    },
    physical_plan::SendableRecordBatchStream,
    prelude::SessionConfig,
    sql::{parser, sqlparser::ast},
};
use event_log::Target;
use futures::StreamExt;

use crate::{
    event_table::{EventTable, event_types},
    mask::Privacy,
    moment,
    reading::Source,
    usage::usage,
    view,
};
use events::EventsTable;
use trouble::trouble;
use views::ViewTable;

const CATALOG: &str = "headwater";
/// Views need no name before theirs.
const VIEWS: &str = "views";
const BYTES_PER_MB: u64 = 1024 * 1024;

pub struct Options {
    /// Without it: as of the end of the log.
    pub as_of: Option<Target>,
    pub privacy: Privacy,
    /// For what the engine keeps, and for the views' rows.
    pub memory_mb: u64,
}

/// The log as it was at one moment: for as long as it is asked, nothing is added to it.
#[derive(Clone)]
struct Snapshot {
    source: Source,
    /// Where the log ended when this was made.
    end: u64,
    as_of: Target,
    privacy: Privacy,
}

/// Tables that can be asked.
pub struct Session {
    context: SessionContext,
    tables: BTreeMap<String, SchemaRef>,
    memory_mb: u64,
}

/// The rows that answer a query, as they come.
pub struct Answer {
    pub schema: SchemaRef,
    rows: SendableRecordBatchStream,
    memory_mb: u64,
}

impl Session {
    pub async fn open(source: &Source, options: Options) -> Result<Self> {
        let Options { as_of, privacy, memory_mb } = options;
        privacy.check(columns()?.iter().map(AsRef::as_ref))?;
        let end = source.log.head().await?.position;
        moment::refuse_future(as_of, end)?;
        let as_of = as_of.unwrap_or(Target::Position(end));
        let snapshot = Snapshot { source: source.clone(), end, as_of, privacy };
        let catalog = MemoryCatalogProvider::new();
        let mut tables = BTreeMap::new();
        for event_type in event_types() {
            let (schema, table) = (event_type.kind.name().to_owned(), table_name(&event_type.name));
            let provider = Arc::new(EventsTable::new(snapshot.clone(), event_type)?);
            tables.insert(format!("{schema}.{table}"), provider.schema());
            add(&catalog, &schema, table, provider)?;
        }
        for definition in domain::views::ALL {
            let provider = Arc::new(ViewTable::new(snapshot.clone(), definition)?);
            tables.insert(definition.name.to_owned(), provider.schema());
            add(&catalog, VIEWS, definition.name.to_owned(), provider)?;
        }
        let context = SessionContext::new_with_state(engine(memory_mb)?);
        context.register_catalog(CATALOG, Arc::new(catalog));
        Ok(Self { context, tables, memory_mb })
    }

    /// All tables, as queries name them, and their columns.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &SchemaRef)> {
        self.tables.iter().map(|(name, schema)| (name.as_str(), schema))
    }

    /// Refuses whatever is no query of these tables. Errors are [`crate::usage::Usage`] where the query is to be mended.
    pub async fn query(&self, text: &str) -> Result<Answer> {
        let trouble = |error| trouble(error, self.memory_mb);
        let state = self.context.state();
        let dialect = state.config_options().sql_parser.dialect;
        let statement = state.sql_to_statement(text, &dialect).map_err(trouble)?;
        refuse_all_but_queries(&statement)?;
        self.refuse_unknown(&state, &state.resolve_table_references(&statement).map_err(trouble)?)?;
        let plan = state.statement_to_plan(statement).await.map_err(trouble)?;
        let read_only =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(trouble)?;
        let rows = DataFrame::new(state, plan).execute_stream().await.map_err(trouble)?;
        Ok(Answer { schema: rows.schema(), rows, memory_mb: self.memory_mb })
    }

    fn refuse_unknown(&self, state: &SessionState, named: &[TableReference]) -> Result<()> {
        let is_known = |table: &TableReference| match table.schema() {
            // Those that tell what there is.
            Some("information_schema") => true,
            Some(schema) if schema != VIEWS => {
                self.tables.contains_key(&format!("{schema}.{}", table.table()))
            }
            _ => {
                self.tables.contains_key(table.table()) || state.table_functions().contains_key(table.table())
            }
        };
        match named.iter().find(|table| !is_known(table)) {
            None => Ok(()),
            Some(unknown) => {
                let known: Vec<&str> = self.tables.keys().map(String::as_str).collect();
                Err(usage(format!("there is no table `{unknown}`; there are {}", known.join(", "))))
            }
        }
    }
}

impl Answer {
    /// The next rows; none at their end.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let next = self.rows.next().await.transpose();
        next.map_err(|error| trouble(error, self.memory_mb))
    }
}

/// Of each table, whatever is masked or dropped.
fn columns() -> Result<Vec<SchemaRef>> {
    let of_events = event_types();
    let of_events = of_events.iter().map(|event_type| Ok(EventTable::new(event_type)?.schema));
    let of_views = domain::views::ALL.iter().map(|view| Ok(view::table(view, Vec::new())?.0));
    of_events.chain(of_views).collect()
}

/// `account.email-changed` is the table `account.email_changed`, which needs no quotes in SQL.
fn table_name(event_type: &str) -> String {
    event_type.split_once('.').map_or(event_type, |(_, name)| name).replace('-', "_")
}

fn add(
    catalog: &MemoryCatalogProvider,
    schema: &str,
    table: String,
    provider: Arc<dyn TableProvider>,
) -> Result<()> {
    if catalog.schema(schema).is_none() {
        catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
    }
    if let Some(schema) = catalog.schema(schema) {
        schema.register_table(table, provider)?;
    }
    Ok(())
}

/// Functions and planners, and nothing that reaches files or other servers.
fn engine(memory_mb: u64) -> Result<SessionState> {
    let config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, VIEWS)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let table_functions = Defaults::default_table_functions();
    let table_functions =
        table_functions.into_iter().map(|function| (function.name().to_owned(), function)).collect();
    Ok(SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(Arc::new(runtime(memory_mb)?))
        .with_expr_planners(Defaults::default_expr_planners())
        .with_scalar_functions(Defaults::default_scalar_functions())
        .with_aggregate_functions(Defaults::default_aggregate_functions())
        .with_window_functions(Defaults::default_window_functions())
        .with_table_functions(table_functions)
        .build())
}

fn runtime(memory_mb: u64) -> Result<RuntimeEnv> {
    let memory = usize::try_from(memory_mb * BYTES_PER_MB)?;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
        // What does not fit is told, and personal values lie in no temporary file.
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build()?;
    runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    Ok(runtime)
}

fn refuse_all_but_queries(statement: &parser::Statement) -> Result<()> {
    use ast::Statement::{Explain, ExplainTable, Query, ShowColumns, ShowTables};
    let is_query = match statement {
        parser::Statement::Statement(statement) => matches!(
            **statement,
            Query(_) | Explain { .. } | ExplainTable { .. } | ShowColumns { .. } | ShowTables { .. }
        ),
        parser::Statement::Explain(explain) => return refuse_all_but_queries(&explain.statement),
        _ => false,
    };
    if is_query {
        Ok(())
    } else {
        Err(usage("only queries are carried out: the log and its views are read only"))
    }
}
