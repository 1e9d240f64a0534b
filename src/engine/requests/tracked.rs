//! Owns a command that can be asked for while it is on its way, and whose refusal is told.

use std::sync::Arc;

use super::Requests;
use super::key::RequestKey;

/// Its request is in flight for as long as this value lives.
pub(crate) struct Tracked {
    requests: Arc<Requests>,
    /// The id is empty if the command has none, and is tracked for those who listen.
    key: RequestKey,
    /// Finds the command's name, which only a refusal needs.
    command: fn() -> &'static str,
    /// The command's name, if it is known already.
    name: Option<&'static str>,
}

impl Tracked {
    pub(super) fn new(
        requests: Arc<Requests>,
        key: RequestKey,
        command: fn() -> &'static str,
    ) -> Box<Self> {
        if !key.id().is_empty() {
            requests.index.enter(&key);
        }
        Box::new(Self { requests, key, command, name: None })
    }

    /// Notes the command's name.
    pub(crate) fn named(mut self: Box<Self>, name: &'static str) -> Box<Self> {
        self.name = Some(name);
        self
    }

    /// Returns the request, if the command has an id.
    pub(crate) fn request(&self) -> Option<&RequestKey> {
        Some(&self.key).filter(|key| !key.id().is_empty())
    }

    /// Notes that the command was accepted, now or under an earlier try.
    pub(crate) fn accepted(&self) {
        self.requests.rejections.accepted(&self.key);
    }

    /// Notes that the command was refused.
    pub(crate) fn refused(&self, reason: String) {
        let now = self.requests.storage.now();
        let command = self.name.unwrap_or_else(self.command);
        self.requests.rejections.note(&self.key, command, reason, now);
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if !self.key.id().is_empty() {
            self.requests.index.leave(&self.key);
        }
    }
}
