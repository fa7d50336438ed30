//! Analytics: data points for the Analytics Engine dataset ANALYTICS, if bound. Writing does not
//! wait, and only the operator sees a failure.

use std::cell::OnceCell;

use http::request::Parts;
use pmx_streams::StreamName;
use pmx_streams::http::name_of;
use pmx_streams::policy::{DataPoint, Operation};
use worker::{AnalyticsEngineDataPointBuilder, AnalyticsEngineDataset, Env, console_error};

/// Where points go, if anywhere.
pub(super) struct Analytics {
    dataset: Option<AnalyticsEngineDataset>,
    /// The one stream of an object, as its first request called it.
    stream: OnceCell<StreamName>,
}

impl Analytics {
    /// To what is bound.
    pub(super) fn of(env: &Env) -> Self {
        Self {
            dataset: env.analytics_engine("ANALYTICS").ok(),
            stream: OnceCell::new(),
        }
    }

    /// Learns from a request what the stream is called.
    pub(super) fn learn(&self, head: &Parts) {
        if self.dataset.is_some()
            && self.stream.get().is_none()
            && let Some(Ok(name)) = name_of(&head.uri)
        {
            let _known = self.stream.set(name);
        }
    }

    /// Writes that something happened, if anybody wants to know.
    pub(super) fn write(&self, what: Operation, bytes: u64, status: u16, millis: u64) {
        let (Some(dataset), Some(stream)) = (&self.dataset, self.stream.get()) else {
            return;
        };
        let mut point = DataPoint::new(stream, what);
        point.bytes = bytes;
        point.status = status;
        point.millis = millis;
        let mut built = AnalyticsEngineDataPointBuilder::new().indexes([point.index()]);
        for blob in point.blobs() {
            built = built.add_blob(blob);
        }
        for double in point.doubles() {
            built = built.add_double(double);
        }
        if let Err(error) = dataset.write_data_point(&built.build()) {
            console_error!("writing a point: {error}");
        }
    }
}
