//! How a command is executed for an HTTP request, and what the client is told. Generic over the
//! command: a handler only says which one it wants.

use std::fmt;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use prevalence::{Database, Error, ExecuteError, ImportReport, Listed, Metadata};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinError;

use crate::bank::Bank;

/// What a client is told of an accepted command.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer<O> {
    pub sequence: u64,
    pub output: O,
    /// Whether it was accepted before, under the same key.
    pub repeated: bool,
}

/// Returns who asks, and under which key. A real service takes the actor from what has checked the
/// client's identity. The key is the client's: the same one for each try of one request.
pub fn metadata_of(headers: &HeaderMap) -> Result<Metadata, Refused> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let request_id = text("idempotency-key").to_owned();
    if request_id.is_empty() {
        let told = "a request that changes something needs the header Idempotency-Key";
        return Err(Refused::new(StatusCode::BAD_REQUEST, told));
    }
    Ok(Metadata { actor: text("x-actor").to_owned(), request_id, ..Metadata::default() })
}

/// Executes a command. While the queue is full and while the disk is written, this task waits, and
/// no thread does.
pub async fn run<C>(
    bank: &Database<Bank>,
    metadata: &Metadata,
    command: C,
) -> Result<Json<Answer<C::Output>>, Refused>
where
    C: Listed<Bank>,
    C::Output: Serialize + DeserializeOwned,
    C::Rejection: fmt::Debug,
{
    let answer = match bank.submit_async_with(metadata, command).await {
        Ok(pending) => pending.numbered().await,
        Err(refused) => Err(refused),
    };
    match answer {
        Ok(numbered) => {
            let (sequence, output) = (numbered.sequence, numbered.output);
            Ok(Json(Answer { sequence, output, repeated: false }))
        }
        // The client has asked before, and may not have got the answer: it gets the same one.
        Err(ExecuteError::Duplicate { sequence, first }) => match first.output::<C::Output>() {
            Ok(Some(output)) if first.is::<C>() => {
                Ok(Json(Answer { sequence, output, repeated: true }))
            }
            _ => Err(Refused::new(
                StatusCode::CONFLICT,
                format!("this key belongs to another request, with sequence {sequence}"),
            )),
        },
        Err(error) => Err(Refused::because_of(&error)),
    }
}

/// Answers an import, as `prevalence import` understands it.
pub fn imported(done: Result<Result<ImportReport, Error>, JoinError>) -> Response {
    let told = match done {
        Ok(Ok(report)) => return Json(report).into_response(),
        // The lines before it were executed, so the client must be told what became of them.
        Ok(Err(Error::ImportLine { line, reason, before })) => {
            let told = json!({ "error": reason, "line": line, "report": before });
            return (StatusCode::UNPROCESSABLE_ENTITY, Json(told)).into_response();
        }
        Ok(Err(error)) => error.to_string(),
        Err(ended) => ended.to_string(),
    };
    // Nobody can say here which lines were executed.
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": told }))).into_response()
}

/// What a client is told of a command that was not accepted.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    told: String,
    retry_after_s: Option<u64>,
}

impl Refused {
    fn new(status: StatusCode, told: impl Into<String>) -> Self {
        Self { status, told: told.into(), retry_after_s: None }
    }

    fn because_of<R: fmt::Debug + 'static>(error: &ExecuteError<R>) -> Self {
        let told = error.to_string();
        match error {
            // Its own rules say no. Asking again without a change does not help.
            ExecuteError::Rejected(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, told),
            ExecuteError::Stale { .. } => Self::new(StatusCode::CONFLICT, told),
            ExecuteError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, told),
            ExecuteError::Metadata { .. } => Self::new(StatusCode::BAD_REQUEST, told),
            // It has left no trace, and may be tried again.
            ExecuteError::RequestsFull { frees_in, .. } => Self {
                retry_after_s: Some(frees_in.as_secs() + 1),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, told)
            },
            ExecuteError::NotWritten { .. } | ExecuteError::Stopped => {
                Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, told) }
            }
            // It may have left a trace: the client asks again under its key, and is told.
            ExecuteError::Poisoned(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, told),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, told),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.told).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
