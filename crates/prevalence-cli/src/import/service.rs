//! Owns the conversation with a service over HTTP: one request, then its answer. Knows nothing of
//! what the answers mean, nor of what comes next. It never sends a request twice.

use std::cell::Cell;
use std::io::{self, Read};
use std::time::Duration;

use ureq::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, LOCATION, TRANSFER_ENCODING,
};
use ureq::http::{HeaderName, HeaderValue, Response, Uri};
use ureq::{Agent, Body, SendBody};

use super::answer::{Answer, Unanswered, understand};
use super::lines::Batch;
use crate::output::plain;

/// The longest answer: a thousand refused lines, each with a long reason.
const MOST_ANSWER_BYTES: u64 = 16 << 20;

/// Parses where a service is.
pub fn url(text: &str) -> Result<Uri, String> {
    let wrong = |reason: &str| format!("{reason}. It must be like http://127.0.0.1:8080/import");
    let uri: Uri = text.parse().map_err(|error| wrong(&format!("it is no URL: {error}")))?;
    let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err("this tool speaks no TLS. Go through a tunnel, such as `ssh -L \
                        8080:127.0.0.1:8080 HOST`, or a local proxy, and give its http:// URL"
                .to_owned());
        }
        _ => return Err(wrong("it does not begin with http://")),
    }
    if authority.as_str().contains('@') {
        return Err(wrong("it has a user in it. Give --header 'Authorization: …' for that"));
    }
    if authority.host().is_empty() {
        return Err(wrong("it names no host"));
    }
    if authority.as_str() != authority.host() && authority.port_u16().is_none() {
        return Err(wrong("its port is no number up to 65535"));
    }
    Ok(uri)
}

/// Parses a header that the user adds.
pub fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("it must be like 'Name: value'")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes());
    let name = name.map_err(|_| "what is before the colon is no name of a header")?;
    // They say how the request is sent.
    if [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING].contains(&name) {
        return Err(format!("the tool itself sets {name}"));
    }
    let value = HeaderValue::from_str(value.trim());
    let value = value.map_err(|_| "what is behind the colon cannot be the value of a header")?;
    Ok((name, value))
}

/// A service that takes imports.
pub struct Service<'a> {
    agent: Agent,
    url: &'a Uri,
    headers: &'a [(HeaderName, HeaderValue)],
    timeout: Duration,
    has_answered: bool,
}

impl<'a> Service<'a> {
    pub fn new(url: &'a Uri, headers: &'a [(HeaderName, HeaderValue)], timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .proxy(None) // nothing is asked but the service
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // A connection that the service closes while it is idle would look like a lost answer.
            .max_idle_connections(0)
            .timeout_global(Some(timeout));
        let agent = config.build().new_agent();
        Self { agent, url, headers, timeout, has_answered: false }
    }

    /// Sends the lines, and waits for what became of them.
    pub fn send(&mut self, batch: &Batch) -> Result<Answer, Unanswered> {
        let has_begun = Cell::new(false);
        let mut lines = Sent { left: &batch.bytes, has_begun: &has_begun };
        let mut request = self
            .agent
            .post(self.url)
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header(CONTENT_LENGTH, batch.bytes.len().to_string());
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if !self.has_answered {
            // What refuses the first request may do so before it has the lines. Else it might close
            // the connection while they are sent, and its answer would be lost.
            request = request.header(EXPECT, "100-continue");
        }
        let response = request.send(SendBody::from_reader(&mut lines));
        let answer = match response {
            Ok(response) => self.read(response, batch),
            Err(error) => Err(Unanswered::unknown(self.told(&error))),
        };
        self.has_answered |= answer.is_ok();
        // A service that has not got a line can execute none.
        answer.map_err(|it| Unanswered { is_unknown: it.is_unknown && has_begun.get(), ..it })
    }

    fn read(&self, mut response: Response<Body>, batch: &Batch) -> Result<Answer, Unanswered> {
        let status = response.status();
        if status.is_redirection() {
            let place = response.headers().get(LOCATION);
            let place = place.and_then(|place| place.to_str().ok()).unwrap_or_default();
            return understand(status, place.as_bytes(), batch);
        }
        let mut body = Vec::new();
        let limit = MOST_ANSWER_BYTES;
        let read = response.body_mut().as_reader().take(limit + 1).read_to_end(&mut body);
        if let Err(error) = read {
            let reason = format!("the service's answer {status} has no end: {error}");
            return Err(Unanswered::unknown(reason));
        }
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > limit {
            let reason = format!("the service's answer {status} is longer than {limit} bytes");
            return Err(Unanswered::unknown(reason));
        }
        understand(status, &body, batch)
    }

    fn told(&self, error: &ureq::Error) -> String {
        let url = self.url;
        match error {
            ureq::Error::Timeout(_) => {
                let timeout = humantime::format_duration(self.timeout);
                format!("{url} has not answered within {timeout}. --timeout gives it longer")
            }
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                format!("nothing listens at {url}: {error}. Start the service, or correct --url")
            }
            ureq::Error::HostNotFound => format!("nobody knows the host of {url}. Correct --url"),
            other => format!("{url} has not answered: {}", plain(&other.to_string())),
        }
    }
}

/// The lines of a request, on their way out.
struct Sent<'a> {
    left: &'a [u8],
    has_begun: &'a Cell<bool>,
}

impl Read for Sent<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.has_begun.set(true);
        self.left.read(into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_asked_is_a_url() {
        for fine in ["http://127.0.0.1:8080/import", "http://bank", "http://[::1]:1/a?b=c"] {
            url(fine).unwrap();
        }
        for (wrong, part) in [
            ("https://bank/import", "ssh -L"),
            ("127.0.0.1:8080/import", "it is no URL"),
            ("127.0.0.1:8080", "does not begin with http://"),
            ("/import", "names no host"),
            ("ftp://bank/", "does not begin with http://"),
            ("http://ann:secret@bank/", "--header"),
            ("http://bank:99999999/", "its port is no number"),
            ("", "it is no URL"),
        ] {
            let told = url(wrong).unwrap_err();
            assert!(told.contains(part), "{wrong}: {told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn a_header_may_not_change_how_a_request_is_sent() {
        let (name, value) = header("Authorization: Bearer a:b").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer a:b"));
        for wrong in ["Authorization", ": x", "a b: c", "a: b\nc", "Content-Length: 7", "expect:x"]
        {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }
}
