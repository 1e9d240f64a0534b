//! The routes of the service, and what each of them asks the bank.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{Response, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt};
use prevalence::{Database, Metadata, RequestStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::{Answer, Refused, imported, metadata_of, run};
use crate::bank::{Balance, Bank, Deposit, Transfer};

/// The longest body of an import: `prevalence import` sends 1 MiB, or one longer line.
const IMPORT_BYTES: usize = 16 << 20;

pub fn routes(bank: Database<Bank>) -> Router {
    Router::new()
        .route("/accounts/{account}", get(account))
        .route("/accounts/{account}/deposits", post(deposit))
        .route("/transfers", post(transfer))
        .route("/import", post(import).layer(DefaultBodyLimit::max(IMPORT_BYTES)))
        .route("/requests/{id}", get(request))
        .route("/rejections", get(rejections))
        .route("/stats", get(stats))
        .with_state(bank)
}

type Answered<O> = Result<Json<Answer<O>>, Refused>;

#[derive(Deserialize)]
struct Amount {
    cents: u64,
}

async fn deposit(
    State(bank): State<Database<Bank>>,
    Path(account): Path<u32>,
    headers: HeaderMap,
    Json(Amount { cents }): Json<Amount>,
) -> Answered<Balance> {
    run(&bank, &metadata_of(&headers)?, Deposit { account, cents }).await
}

async fn transfer(
    State(bank): State<Database<Bank>>,
    headers: HeaderMap,
    Json(transfer): Json<Transfer>,
) -> Answered<Balance> {
    run(&bank, &metadata_of(&headers)?, transfer).await
}

/// Executes the lines that `prevalence import` sends. Each says itself who asked for it, so a real
/// service lets only its operators do this. The body is whole before the first line is executed,
/// and the import waits for the disk, so it does not run on a worker.
async fn import(State(bank): State<Database<Bank>>, lines: Bytes) -> Response {
    imported(tokio::task::spawn_blocking(move || bank.import(&lines[..])).await)
}

/// Reads never wait, so a handler reads where it is.
async fn account(State(bank): State<Database<Bank>>, Path(account): Path<u32>) -> Json<Value> {
    let version = bank.view();
    Json(json!({ "cents": version.balance(account), "sequence": version.sequence() }))
}

/// What became of a request, for a client that does not want to send it again.
async fn request(
    State(bank): State<Database<Bank>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Json<Value> {
    let actor = headers.get("x-actor").and_then(|actor| actor.to_str().ok()).unwrap_or_default();
    let asks = Metadata { actor: actor.to_owned(), ..Metadata::default() };
    let status = bank.with_metadata(&asks).map(|bank| bank.status(&id));
    Json(match status {
        Ok(RequestStatus::Accepted { sequence }) => {
            json!({ "status": "accepted", "sequence": sequence })
        }
        Ok(RequestStatus::Rejected { reason, .. }) => {
            json!({ "status": "rejected", "reason": reason })
        }
        Ok(RequestStatus::InFlight) => json!({ "status": "in flight" }),
        _ => json!({ "status": "unknown" }),
    })
}

#[derive(Serialize)]
struct Told {
    command: &'static str,
    actor: String,
    reason: String,
}

/// The commands that are refused from now on, as server-sent events.
async fn rejections(
    State(bank): State<Database<Bank>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // They are an iterator, too, which would wait with its thread; so the stream is named.
    let events = StreamExt::map(bank.rejections(), |refused| {
        let (command, actor, reason) = (refused.command, refused.actor, refused.reason);
        let event = Event::default().json_data(Told { command, actor, reason });
        Ok(event.unwrap_or_else(|error| Event::default().comment(error.to_string())))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// Figures of the database and of the runtime.
async fn stats(State(bank): State<Database<Bank>>) -> Json<Value> {
    Json(json!({ "database": bank.stats(), "longest_poll_us": longest_poll().as_micros() }))
}

/// So fine are polls measured, and up to here.
pub const POLL_STEP: Duration = Duration::from_micros(250);
pub const POLL_STEPS: usize = 400;

/// Returns at most how long the runtime was held by one poll of a task, as tokio tells it; zero
/// where it tells nothing.
fn longest_poll() -> Duration {
    #[cfg(tokio_unstable)]
    {
        let metrics = tokio::runtime::Handle::current().metrics();
        let was_seen = |bucket: &usize| {
            (0..metrics.num_workers())
                .any(|worker| metrics.poll_time_histogram_bucket_count(worker, *bucket) > 0)
        };
        let longest = (0..metrics.poll_time_histogram_num_buckets()).rev().find(was_seen);
        let end = longest.map(|bucket| metrics.poll_time_histogram_bucket_range(bucket).end);
        end.unwrap_or_default()
    }
    #[cfg(not(tokio_unstable))]
    Duration::ZERO
}
