//! Which of several servers gets the next client: rules without a socket or a clock.

pub mod galera;
