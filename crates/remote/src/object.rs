//! What is behind `s3://BUCKET/KEY`, `gs://BUCKET/NAME` and `az://CONTAINER/NAME`.
//!
//! Which endpoint a store has, and with whose rights it is asked, is said by the settings and the environment, never by the
//! address: the [`crate::Policy`] is for addresses that others write, and these name a bucket alone. Redirects are not followed.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpClient, HttpConnector};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    Attribute, BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig,
};
use reqwest::Url;
use transload_block::{Error, ErrorKind, Result};

use crate::client::build;
use crate::fetch::{Attempt, Failure, Fetch, Patience, network};
use crate::runtime::wait;
use crate::upload::ObjectUpload;
use crate::{Credentials, Limits, Options, Origin, Policy, RemoteDisk, Upload, UploadSettings, percent_decoded, shown};

/// An object, and the store that has it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) origin: Origin,
}

/// Opens the object at `url`.
pub(crate) fn open(url: &Url, options: &Options) -> Result<RemoteDisk> {
    let place = place(url, options)?;
    let limits = options.limits;
    let found = place.clone();
    let meta = wait(async move { found.head(&limits).await }, &options.stop)?;
    let meta = meta.ok_or_else(|| network(&place.origin, "not found").with_remedy("check the address"))?;
    let mark = meta.e_tag.clone().or_else(|| meta.version.clone());
    let origin = Origin {
        size: Some(meta.size),
        etag: mark,
        last_modified: Some(meta.last_modified.to_rfc3339()),
        ..place.origin.clone()
    };
    let source = ObjectSource { place: Place { origin, ..place }, etag: meta.e_tag };
    Ok(RemoteDisk::new(Arc::new(source), meta.size, &[], &options.limits, &options.stop))
}

/// Begins to write the object at `url`.
pub(crate) fn create(url: &Url, settings: &UploadSettings, options: &Options) -> Result<Upload> {
    let place = place(url, options)?;
    let (settings, limits) = (settings.clone(), options.limits);
    let inner = wait(async move { ObjectUpload::begin(place, settings, &limits).await }, &options.stop)?;
    Ok(Upload::new(inner, options.stop.clone()))
}

fn place(url: &Url, options: &Options) -> Result<Place> {
    let origin = Origin { shown: shown(url), ..Origin::default() };
    let invalid = |why: String| Error::new(ErrorKind::InvalidInput, format!("{origin}: {why}"));
    let bucket = url.host_str().unwrap_or_default();
    let path = Path::parse(percent_decoded(url.path().trim_start_matches('/')));
    let path = path.map_err(|error| invalid(error.to_string()))?;
    if path.as_ref().is_empty() {
        return Err(invalid("names a bucket, and nothing in it".to_owned()));
    }
    let store = match url.scheme() {
        "s3" => s3(bucket, options),
        "gs" => gcs(bucket, options),
        _ => azure(bucket, options),
    };
    let store = store.map_err(|error| match error {
        BuildError::Ours(error) => error,
        BuildError::Store(error) => invalid(innermost(&error)),
    })?;
    Ok(Place { store, path, origin })
}

enum BuildError {
    Ours(Error),
    Store(object_store::Error),
}

impl From<object_store::Error> for BuildError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

type Built = Result<Arc<dyn ObjectStore>, BuildError>;

/// The settings of `credentials` that a store's client knows; others are for other stores.
fn known<K: std::str::FromStr>(credentials: &Credentials) -> impl Iterator<Item = (K, String)> {
    credentials
        .object_store
        .iter()
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.clone())))
}

fn s3(bucket: &str, options: &Options) -> Built {
    let credentials = &options.credentials;
    let anonymous = !credentials.environment && credentials.object_store.is_empty();
    let mut builder = if credentials.environment { AmazonS3Builder::from_env() } else { AmazonS3Builder::new() };
    for (key, value) in known(credentials) {
        builder = builder.with_config(key, value);
    }
    builder = builder.with_bucket_name(bucket).with_retry(retries(&options.limits));
    builder = builder.with_http_connector(Connector::new(options).map_err(BuildError::Ours)?);
    if anonymous {
        builder = builder.with_skip_signature(true);
    }
    Ok(Arc::new(builder.build()?))
}

fn gcs(bucket: &str, options: &Options) -> Built {
    let credentials = &options.credentials;
    let anonymous = !credentials.environment && credentials.object_store.is_empty();
    let from_env = credentials.environment;
    let mut builder = if from_env { GoogleCloudStorageBuilder::from_env() } else { GoogleCloudStorageBuilder::new() };
    for (key, value) in known(credentials) {
        builder = builder.with_config(key, value);
    }
    builder = builder.with_bucket_name(bucket).with_retry(retries(&options.limits));
    builder = builder.with_http_connector(Connector::new(options).map_err(BuildError::Ours)?);
    if anonymous {
        builder = builder.with_skip_signature(true);
    }
    Ok(Arc::new(builder.build()?))
}

fn azure(container: &str, options: &Options) -> Built {
    let credentials = &options.credentials;
    let anonymous = !credentials.environment && credentials.object_store.is_empty();
    let mut builder =
        if credentials.environment { MicrosoftAzureBuilder::from_env() } else { MicrosoftAzureBuilder::new() };
    for (key, value) in known(credentials) {
        builder = builder.with_config(key, value);
    }
    builder = builder.with_container_name(container).with_retry(retries(&options.limits));
    builder = builder.with_http_connector(Connector::new(options).map_err(BuildError::Ours)?);
    if anonymous {
        builder = builder.with_skip_signature(true);
    }
    Ok(Arc::new(builder.build()?))
}

fn retries(limits: &Limits) -> RetryConfig {
    let max_retries = usize::try_from(limits.attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let backoff = BackoffConfig { init_backoff: limits.backoff, ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries, ..RetryConfig::default() }
}

/// Gives the stores our own client: no redirects, our bounds of time.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl Connector {
    fn new(options: &Options) -> Result<Self> {
        build(&Policy::Open, options).map(Self)
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl Place {
    /// What the store knows of the object; `None` where there is none.
    pub(crate) async fn head(&self, limits: &Limits) -> Result<Option<object_store::ObjectMeta>> {
        let mut patience = Patience::new(limits);
        loop {
            match self.store.head(&self.path).await {
                Ok(meta) => return Ok(Some(meta)),
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => patience.bear(self.failure(&error)).await?,
            }
        }
    }

    /// What an error of the store means. It has tried again itself where it was a failure of the network.
    pub(crate) fn failure(&self, error: &object_store::Error) -> Failure {
        use object_store::Error as Store;
        let cause = innermost(error);
        let error = match error {
            Store::NotFound { .. } => network(&self.origin, "not found").with_remedy("check the address"),
            Store::Precondition { .. } => network(&self.origin, "changed in the store while it was read")
                .with_remedy("begin again, when nobody writes to it"),
            Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => {
                network(&self.origin, &format!("the store refuses: {cause}"))
                    .with_remedy("set the store's credentials in the environment; docs/remote.md names the variables")
            }
            Store::AlreadyExists { .. } => exists(&self.origin),
            Store::NotSupported { .. } | Store::NotImplemented { .. } => {
                Error::new(ErrorKind::Unsupported, format!("{}: {cause}", self.origin))
            }
            _ => network(&self.origin, &cause),
        };
        Failure::lasting(error)
    }
}

/// The error for a target that is there already.
pub(crate) fn exists(origin: &Origin) -> Error {
    Error::new(ErrorKind::Denied, format!("{origin}: exists")).with_remedy("replace it with --force")
}

/// What the store said at last, without those who passed it on.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        last = inner.to_string();
        next = inner.source();
    }
    last
}

/// An object that is read.
#[derive(Debug)]
struct ObjectSource {
    place: Place,
    /// The tag that every answer has to have.
    etag: Option<String>,
}

impl Fetch for ObjectSource {
    fn origin(&self) -> &Origin {
        &self.place.origin
    }

    fn fetch(&self, range: Range<u64>) -> BoxFuture<'_, Attempt<BoxStream<'static, Attempt<Bytes>>>> {
        Box::pin(async move {
            let mut options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            options.if_match.clone_from(&self.etag);
            let answer = self.place.store.get_opts(&self.place.path, options).await;
            let answer = answer.map_err(|error| self.place.failure(&error))?;
            let kind = answer.attributes.get(&Attribute::ContentType);
            if answer.range != range || Some(answer.meta.size) != self.place.origin.size {
                let text = format!("asked for bytes {range:?}, the store sends {:?} ({kind:?})", answer.range);
                return Err(Failure::lasting(network(&self.place.origin, &text)));
            }
            let place = self.place.clone();
            let passing = move |error: object_store::Error| Failure { again: true, ..place.failure(&error) };
            Ok(answer.into_stream().map_err(passing).boxed())
        })
    }
}
