//! Analytics: data points for the Analytics Engine dataset ANALYTICS, if bound. A write does not
//! wait. A failure appears only in the operator's log.

use std::cell::OnceCell;

use http::request::Parts;
use pmx_streams::StreamName;
use pmx_streams::http::name_of;
use pmx_streams::policy::{DataPoint, Operation};
use worker::{AnalyticsEngineDataPointBuilder, AnalyticsEngineDataset, Env, console_error};

/// The dataset, if one is bound.
pub(super) struct Analytics {
    dataset: Option<AnalyticsEngineDataset>,
    /// The object's stream, as its first request named it.
    stream: OnceCell<StreamName>,
}

impl Analytics {
    /// Opens the binding.
    pub(super) fn of(env: &Env) -> Self {
        Self {
            dataset: env.analytics_engine("ANALYTICS").ok(),
            stream: OnceCell::new(),
        }
    }

    /// Takes the stream's name from a request.
    pub(super) fn learn_name(&self, head: &Parts) {
        if self.dataset.is_some()
            && self.stream.get().is_none()
            && let Some(Ok(name)) = name_of(&head.uri)
        {
            let _known = self.stream.set(name);
        }
    }

    /// Writes a data point, if a dataset is bound.
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
