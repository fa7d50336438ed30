//! Stream index in D1: the binding INDEX, if there is one.

use std::cell::Cell;

use pmx_core::sql::Value;
use pmx_streams::hub::{CREATE_VERSIONS, READ_VERSIONS, Statement, migrations};
use serde::Deserialize;
use worker::wasm_bindgen::JsValue;
use worker::{D1Database, Env};

/// The database of the index.
pub(super) struct StreamIndex {
    database: D1Database,
    /// Whether this object has migrated the tables.
    is_migrated: Cell<bool>,
}

/// A recorded version.
#[derive(Deserialize)]
struct RecordedVersion {
    key: String,
    value: String,
}

impl StreamIndex {
    /// Opens the binding.
    pub(super) fn of(env: &Env) -> Option<Self> {
        let database = env.d1("INDEX").ok()?;
        Some(Self {
            database,
            is_migrated: Cell::new(false),
        })
    }

    /// Runs statements in one transaction, after migrating the tables once.
    pub(super) async fn write(&self, statements: &[Statement]) -> worker::Result<()> {
        if !self.is_migrated.get() {
            self.run(&self.migrations().await?).await?;
            self.is_migrated.set(true);
        }
        self.run(statements).await
    }

    async fn migrations(&self) -> worker::Result<Vec<Statement>> {
        self.database.prepare(CREATE_VERSIONS).run().await?;
        let read = self.database.prepare(READ_VERSIONS).all().await?;
        let recorded: Vec<RecordedVersion> = read.results()?;
        let recorded = recorded.iter().map(|one| (&*one.key, &*one.value));
        migrations(recorded).map_err(|error| worker::Error::RustError(error.to_string()))
    }

    async fn run(&self, statements: &[Statement]) -> worker::Result<()> {
        if statements.is_empty() {
            return Ok(());
        }
        let prepared = statements.iter().map(|statement| {
            let params: Vec<JsValue> = statement.params.iter().map(bound).collect();
            self.database.prepare(statement.text).bind(&params)
        });
        let prepared = prepared.collect::<worker::Result<Vec<_>>>()?;
        self.database.batch(prepared).await.map(drop)
    }
}

fn bound(value: &Value) -> JsValue {
    match value {
        Value::Null => JsValue::NULL,
        #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^53")]
        Value::Integer(number) => JsValue::from_f64(*number as f64),
        Value::Text(text) => JsValue::from_str(text),
        Value::Blob(bytes) => bytes.clone().into(),
    }
}
