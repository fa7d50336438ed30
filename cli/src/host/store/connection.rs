//! Store connections: the project's own HTTP client, which notes how each operation ended.
//!
//! The store's client shows errors as text with the bodies of answers, which may repeat parts of a
//! signed request. So the host describes failures by what it noted here, and by nothing else.

use std::cell::RefCell;
use std::pin::Pin;

use http::StatusCode;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
};

use crate::http_client;

/// How the last request of an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// A server answered.
    Answered {
        /// The server: the store, or a service that gives credentials.
        host: String,
        /// Its answer.
        status: StatusCode,
    },
    /// No server answered.
    Broken {
        /// The server.
        host: String,
        /// The first cause.
        why: String,
    },
}

tokio::task_local! {
    static ENDING: RefCell<Option<Ending>>;
}

/// Runs an operation, and returns how its last request ended.
pub(super) async fn watched<T>(work: impl Future<Output = T>) -> (T, Option<Ending>) {
    let work = async {
        let done = work.await;
        (done, ENDING.with(RefCell::take))
    };
    ENDING.scope(RefCell::default(), work).await
}

/// Gives the store's client the connections of a client of the project.
#[derive(Debug)]
pub(super) struct StoreConnector(pub(super) reqwest::Client);

impl HttpConnector for StoreConnector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Watching(self.0.clone())))
    }
}

#[derive(Debug)]
struct Watching(reqwest::Client);

/// What `async_trait` makes of an asynchronous function.
type Answering<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Watching {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answering<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let host = request.uri().host().unwrap_or_default().to_owned();
        Box::pin(async move {
            let answered = HttpService::call(&self.0, request).await;
            let ending = match &answered {
                Ok(answer) => Ending::Answered {
                    host,
                    status: answer.status(),
                },
                Err(error) => Ending::Broken {
                    host,
                    why: first_cause(error),
                },
            };
            // Fails only outside an operation, which needs no note.
            let _ = ENDING.try_with(|last| last.replace(Some(ending)));
            answered
        })
    }
}

fn first_cause(error: &HttpError) -> String {
    let last = http_client::chain(error).last();
    last.map_or_else(|| error.to_string(), ToString::to_string)
}
