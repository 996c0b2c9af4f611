//! Tasks that break, or run in circles, in a simulation.
//!
//! A task that panics there would take the runtime of its host down, and half of the time the whole
//! process: the runtime drops its tasks while its own books are open, and a task that ends others
//! as it is dropped (every `JoinSet` does) then panics in turn. So a simulated task is stopped
//! instead, and the simulation is told why. In a product a task is simply itself.

#[cfg(not(feature = "sim"))]
pub(crate) fn guarded<F>(task: F) -> F {
    task
}

#[cfg(feature = "sim")]
pub(crate) use simulated::guarded;

#[cfg(feature = "sim")]
pub(crate) mod simulated {
    use std::any::Any;
    use std::cell::{Cell, RefCell};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// Turns all tasks of all hosts may take within one step. A busy step has some hundred.
    const TURNS: u32 = 200_000;

    thread_local! {
        static BROKEN: RefCell<Option<String>> = const { RefCell::new(None) };
        /// None on a thread that runs no simulation: tests of real nodes are built like this too.
        static TURNED: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Begins a step; tells what broke in the one before, if anything did.
    pub(crate) fn step() -> Option<String> {
        TURNED.set(Some(0));
        BROKEN.take()
    }

    pub(crate) fn guarded<F: Future>(task: F) -> Guarded<F> {
        Guarded { task: Box::pin(task), broken: false }
    }

    /// A task that never ends once it has panicked or taken too many turns.
    pub(crate) struct Guarded<F> {
        task: Pin<Box<F>>,
        broken: bool,
    }

    impl<F: Future> Future for Guarded<F> {
        type Output = F::Output;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
            let Some(turned) = TURNED.get() else { return self.task.as_mut().poll(context) };
            let turn = turned + 1;
            TURNED.set(Some(turn));
            if !self.broken && turn <= TURNS {
                let task = self.task.as_mut();
                match catch_unwind(AssertUnwindSafe(|| task.poll(context))) {
                    Ok(polled) => return polled,
                    Err(panic) => tell(format!("a task panicked: {}", words(&*panic))),
                }
            } else if !self.broken {
                tell("tasks run in circles and time stands still".to_owned());
            }
            self.broken = true;
            Poll::Pending
        }
    }

    fn tell(what: String) {
        BROKEN.with_borrow_mut(|known| known.get_or_insert(what).truncate(2_000));
    }

    fn words(panic: &(dyn Any + Send)) -> &str {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
    }
}
