//! Which database node writes. Sans-io.

use std::sync::Arc;

use super::State;
use crate::command::Reply;
use crate::record::Writer;

impl State {
    /// The database node the load balancers have agreed to write to, once they have.
    pub fn writer(&self) -> Option<&Arc<Writer>> {
        self.writer.as_ref()
    }

    pub(super) fn set_writer(&mut self, writer: &Writer) -> Reply {
        let follows = writer.follows(self.writer.as_deref());
        if follows {
            self.writer = Some(Arc::new(writer.clone()));
        }
        super::done_if(follows)
    }
}
