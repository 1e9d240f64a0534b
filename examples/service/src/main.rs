//! An HTTP service on `prevalence`: a bank whose clients may try again until they are told. Read
//! `bank` first, then `answer`, then `routes`; `prevalence::docs::async_service` explains them.
//!
//! ```sh
//! cargo run --release -- --data bank.db --listen 127.0.0.1:3000
//! curl -d '{"cents":250}' -H 'content-type: application/json' -H 'x-actor: ann' \
//!     -H 'idempotency-key: 1' http://127.0.0.1:3000/accounts/7/deposits
//! ```

mod answer;
mod bank;
mod routes;

use std::error::Error;
use std::future::IntoFuture;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use prevalence::Database;

use crate::bank::Bank;

/// Within this time a client that tries again is told what became of its first try.
const TRIES: Duration = Duration::from_secs(600);
/// The memory for that: 3,000 requests a second.
const REQUESTS: usize = 2_000_000;

struct Arguments {
    data: PathBuf,
    listen: String,
    queue: usize,
}

fn arguments() -> Result<Arguments, lexopt::Error> {
    let mut given = Arguments {
        data: PathBuf::from("bank.db"),
        listen: "127.0.0.1:3000".to_owned(),
        queue: 8192,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("data") => given.data = parser.value()?.into(),
            Long("listen") => given.listen = parser.value()?.string()?,
            Long("queue") => given.queue = parser.value()?.parse()?,
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(given)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    // An open may take a while, so it comes before the runtime.
    let bank = Database::<Bank>::builder()
        .queue_capacity(arguments.queue)
        .request_ids_by_actor(true)
        .remembered_requests(REQUESTS)
        .remember_requests_for(TRIES)
        .remembered_outputs(1024)
        .open(&arguments.data)?;
    runtime()?.block_on(serve(bank, &arguments.listen))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    #[cfg(tokio_unstable)]
    builder.enable_metrics_poll_time_histogram().metrics_poll_time_histogram_configuration(
        tokio::runtime::HistogramConfiguration::linear(routes::POLL_STEP, routes::POLL_STEPS),
    );
    builder.enable_all().build()
}

/// Serves until a signal comes.
async fn serve(bank: Database<Bank>, listen: &str) -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, routes::routes(bank.clone()))
        .with_graceful_shutdown(async { stopped.await.unwrap_or(()) });
    let mut server = tokio::spawn(server.into_future());
    tokio::select! {
        ended = &mut server => return Ok(ended??),
        signal = signal() => signal?,
    }
    // The close answers what is on its way, and ends the streams of rejections: else the server
    // would wait for those who listen. It waits for the disk, so it does not run on a worker.
    let closed = tokio::task::spawn_blocking(move || bank.close()).await;
    stop.send(()).ok(); // an error says that the server has ended already
    server.await??;
    Ok(closed??)
}

/// Waits for SIGINT or SIGTERM.
async fn signal() -> std::io::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated.recv() => Ok(()),
    }
}
