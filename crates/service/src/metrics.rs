//! What Prometheus is told.

use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use transload::block::{Error, ErrorKind, Result};
use transload_jobs::model::{JobKind, JobState};

/// The metrics of one service.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: IntCounterVec,
    pub(crate) request_seconds: HistogramVec,
    pub(crate) connections: IntGauge,
    pub(crate) connections_refused: IntCounterVec,
    pub(crate) conversions: IntCounterVec,
    pub(crate) conversions_active: IntGauge,
    pub(crate) conversions_waiting: IntGauge,
    pub(crate) received_bytes: IntCounter,
    pub(crate) sent_bytes: IntCounter,
    pub(crate) disk_bytes: IntCounter,
    pub(crate) spool_bytes: IntGauge,
    pub(crate) unauthorized: IntCounter,
    jobs: IntGaugeVec,
}

/// Upper bounds of the buckets in seconds: an inspection takes milliseconds, an upload may take an hour.
const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];

impl Metrics {
    pub(crate) fn new() -> Result<Self> {
        Self::register().map_err(|error| Error::new(ErrorKind::InvalidInput, format!("metrics: {error}")))
    }

    fn register() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone())).map(|()| family)
        };
        let counter = |name: &str, help: &str| {
            let one = IntCounter::new(name, help)?;
            registry.register(Box::new(one.clone())).map(|()| one)
        };
        let gauge = |name: &str, help: &str| {
            let one = IntGauge::new(name, help)?;
            registry.register(Box::new(one.clone())).map(|()| one)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone())).map(|()| family)
        };
        let seconds = HistogramOpts::new("transload_http_request_seconds", "Seconds until the answer began.");
        let request_seconds = HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["route", "method"])?;
        registry.register(Box::new(request_seconds.clone()))?;
        let build = gauges("transload_build_info", "The version that runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            requests: counters("transload_http_requests_total", "Requests answered.", &["route", "method", "status"])?,
            request_seconds,
            connections: gauge("transload_http_connections", "Connections that are open.")?,
            connections_refused: counters(
                "transload_http_connections_refused_total",
                "Connections that came to nothing.",
                &["reason"],
            )?,
            conversions: counters(
                "transload_conversions_total",
                "Conversions in one pass that ended.",
                &["route", "outcome"],
            )?,
            conversions_active: gauge("transload_conversions_active", "Conversions in one pass under way.")?,
            conversions_waiting: gauge("transload_conversions_waiting", "Requests that wait for their turn.")?,
            received_bytes: counter("transload_received_bytes_total", "Bytes of images received.")?,
            sent_bytes: counter("transload_sent_bytes_total", "Bytes of images sent.")?,
            disk_bytes: counter("transload_disk_bytes_total", "Bytes of disks that were converted in one pass.")?,
            spool_bytes: gauge("transload_spool_bytes", "Bytes stored for the time of a conversion.")?,
            unauthorized: counter("transload_unauthorized_total", "Requests without a right token.")?,
            jobs: gauges("transload_jobs", "Jobs by their kind and state.", &["kind", "state"])?,
            registry,
        })
    }

    /// Sets how many jobs there are of each kind in each state; what is not counted is none.
    pub(crate) fn set_jobs(&self, counts: &[(JobKind, JobState, u64)]) {
        for kind in JobKind::ALL {
            for state in JobState::ALL {
                let count = counts.iter().find(|(its, in_state, _)| (*its, *in_state) == (kind, state));
                let count = i64::try_from(count.map_or(0, |(_, _, count)| *count)).unwrap_or(i64::MAX);
                self.jobs.with_label_values(&[kind.as_str(), state.as_str()]).set(count);
            }
        }
    }

    /// All of them in Prometheus' text format.
    pub(crate) fn text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.map_err(|error| Error::new(ErrorKind::Io, format!("metrics: {error}")))?;
        Ok(text)
    }
}
