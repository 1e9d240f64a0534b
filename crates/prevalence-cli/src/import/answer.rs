//! Owns what a service may answer, and what each answer says of the lines that were sent. Knows
//! nothing of connections.

use prevalence::ImportReport;
use serde::Deserialize;
use ureq::http::StatusCode;

use super::lines::Batch;
use crate::output::plain;

/// So much of an answer that is none is shown.
const SHOWN_CHARS: usize = 200;

/// What became of the lines of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Done(ImportReport),
    /// One of them is no command to the service. It has executed those before it, and none of the
    /// others.
    Wrong {
        /// Its number in the request, counted from 1.
        line: u64,
        reason: String,
        /// What became of those before it, if the answer says it.
        before: Option<ImportReport>,
    },
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Unanswered {
    pub reason: String,
    /// Whether lines may have been executed nevertheless.
    pub is_unknown: bool,
}

impl Unanswered {
    fn nothing_done(reason: String) -> Self {
        Self { reason, is_unknown: false }
    }

    pub fn unknown(reason: String) -> Self {
        Self { reason, is_unknown: true }
    }
}

/// The answer to a line that is no command.
#[derive(Deserialize)]
struct Problem {
    error: String,
    line: u64,
    #[serde(default)]
    report: Option<ImportReport>,
}

/// Understands an answer whose body was read to its end.
pub fn understand(status: StatusCode, body: &[u8], batch: &Batch) -> Result<Answer, Unanswered> {
    if status == StatusCode::OK {
        return match serde_json::from_slice::<ImportReport>(body) {
            Ok(report) if fits(&report, batch.lines, Some(batch.commands)) => {
                Ok(Answer::Done(report))
            }
            Ok(report) => Err(Unanswered::unknown(format!(
                "the service's report is not one of these {} lines: it is one of {}, and its \
                 figures must make up the lines that are not empty. Is something between that \
                 changes requests?",
                batch.lines, report.lines
            ))),
            Err(error) => Err(Unanswered::unknown(format!(
                "the service has answered 200, but with no report of an import ({error}): {}. Does \
                 --url name its import?",
                shown(body)
            ))),
        };
    }
    let answered = format!("the service has answered {status}: {}", shown(body));
    if status.is_client_error() {
        let problem = match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => problem,
            Err(_) => return Err(Unanswered::nothing_done(answered + advice(status))),
        };
        let Some(before) = problem.line.checked_sub(1).filter(|before| *before < batch.lines)
        else {
            return Err(Unanswered::unknown(answered));
        };
        let report = problem.report.filter(|report| fits(report, before, None));
        let reason = plain(&problem.error);
        return Ok(Answer::Wrong { line: problem.line, reason, before: report });
    }
    if status.is_redirection() {
        let advice = ". It sends the tool elsewhere, which is not followed. Give --url the place \
                      itself";
        return Err(Unanswered::nothing_done(answered + advice));
    }
    Err(Unanswered::unknown(answered))
}

/// Whether a report is one of so many lines and commands.
fn fits(report: &ImportReport, lines: u64, commands: Option<u64>) -> bool {
    let counts = [report.accepted, report.duplicates, report.redacted, report.refused];
    let sum = counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count));
    let told = u64::try_from(report.refused_lines.len()).unwrap_or(u64::MAX);
    report.lines == lines
        && sum.is_some_and(|sum| commands.map_or(sum <= lines, |commands| sum == commands))
        && told <= report.refused
        && report.refused_lines.iter().all(|it| (1..=lines).contains(&it.line))
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ". Give it what it asks for, such as --header 'Authorization: Bearer …'"
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            ". Give --url the path of its import"
        }
        StatusCode::PAYLOAD_TOO_LARGE => ". Let it take bodies of 1 MiB, and of the longest line",
        _ => "",
    }
}

/// Returns the beginning of a body, without anything that disturbs a terminal.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..4096).unwrap_or(body));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() {
        return "(an empty body)".to_owned();
    }
    let cut: String = words.chars().take(SHOWN_CHARS).collect();
    match cut.len() < words.len() {
        true => format!("{}…", plain(&cut)),
        false => plain(&cut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(status: u16, body: &str) -> Result<Answer, Unanswered> {
        let batch = Batch { first: 11, lines: 5, commands: 4, ..Batch::default() };
        understand(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &batch)
    }

    fn report(lines: u64, accepted: u64, refused: &str) -> String {
        let count = refused.matches("line").count();
        format!(
            "{{\"lines\":{lines},\"accepted\":{accepted},\"duplicates\":0,\"redacted\":0,\
             \"refused\":{count},\"refused_lines\":[{refused}],\"later\":\"field\"}}"
        )
    }

    #[test]
    fn only_a_report_of_these_lines_is_one() {
        let refused = r#"{"line":5,"reason":"no"}"#;
        assert!(matches!(understood(200, &report(5, 3, refused)), Ok(Answer::Done(_))));
        for other in [
            report(4, 3, refused),
            report(5, 4, refused),
            report(5, 3, r#"{"line":6,"reason":"no"}"#),
            report(5, u64::MAX, refused),
            report(5, 3, "").replace("\"refused\":0", "\"refused\":1").replace("[]", "[{}]"),
            "<html>welcome</html>".to_owned(),
            "{}".to_owned(),
            String::new(),
        ] {
            let unanswered = understood(200, &other).unwrap_err();
            assert!(unanswered.is_unknown, "{other}: {unanswered:?}");
        }
    }

    #[test]
    fn a_refused_request_has_done_nothing_unless_it_names_a_line() {
        let wrong = format!(r#"{{"error":"no\u001b","line":3,"report":{}}}"#, report(2, 2, ""));
        let Ok(Answer::Wrong { line: 3, reason, before: Some(before) }) = understood(422, &wrong)
        else {
            panic!("{:?}", understood(422, &wrong))
        };
        assert_eq!((reason.as_str(), before.accepted), ("no\\u{1b}", 2));
        let bare = understood(400, r#"{"error":"no","line":1}"#);
        assert!(matches!(bare, Ok(Answer::Wrong { line: 1, before: None, .. })), "{bare:?}");
        for outside in [0, 6, u64::MAX] {
            let body = format!(r#"{{"error":"no","line":{outside}}}"#);
            assert!(understood(422, &body).unwrap_err().is_unknown, "{outside}");
        }
        for (status, part) in [
            (401, "--header"),
            (404, "the path of its import"),
            (413, "1 MiB"),
            (307, "not followed"),
        ] {
            let unanswered = understood(status, "<p>\u{1b}[2J\n</p>").unwrap_err();
            assert!(!unanswered.is_unknown && unanswered.reason.contains(part), "{unanswered:?}");
            assert!(unanswered.reason.contains("<p>\\u{1b}[2J </p>"), "{unanswered:?}");
        }
        for status in [202, 500, 503] {
            assert!(understood(status, "{}").unwrap_err().is_unknown, "{status}");
        }
    }
}
