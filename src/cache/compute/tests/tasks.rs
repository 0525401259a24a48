//! Computations that tasks await, on an executor and a timer of a few lines.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::cache::compute::tests::{A_WHILE, assert_idle, assert_obtained, hour, never, place};
use crate::cache::{Cache, Origin};

/// Wakes a thread that polls.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// A timer: a thread for each sleep.
fn sleep(time: Duration) -> impl Future<Output = ()> + Send {
    let end = Instant::now() + time;
    let mut is_set = false;
    std::future::poll_fn(move |context| {
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        if !std::mem::replace(&mut is_set, true) {
            let waker = context.waker().clone();
            thread::spawn(move || {
                thread::sleep(time);
                waker.wake();
            });
        }
        Poll::Pending
    })
}

#[test]
fn tasks_await_threads() {
    let (_dir, path) = place();
    let caches = [Cache::open(&path).unwrap(), Cache::open(&path).unwrap()];
    let (begun, begins) = mpsc::channel();
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let computed = caches[0].get_or_insert_with("key", hour(), || {
                begun.send(()).unwrap();
                thread::sleep(A_WHILE);
                "value"
            });
            assert_obtained(computed, "value", Origin::Computed);
        });
        begins.recv().unwrap();
        for cache in [&caches[0], &caches[1], &caches[0]] {
            scope.spawn(move || {
                let no_future = || async { Ok::<_, Infallible>(never()) };
                let awaited = cache.get_or_try_insert_async("key", hour(), sleep, no_future);
                assert_obtained(block_on(awaited), "value", Origin::Awaited);
            });
        }
    });
    // By their timers they would find it when their patience ends.
    assert!(began.elapsed() < Duration::from_secs(10));
    caches.iter().for_each(assert_idle);
}

fn assert_send<T: Send>(future: T) -> T {
    future
}

#[test]
fn dropped_task_hands_over() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let forever = || std::future::pending::<Result<String, Infallible>>();
    let mut first = Box::pin(assert_send(cache.get_or_try_insert_async(
        "key",
        hour(),
        sleep,
        forever,
    )));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let context = &mut Context::from_waker(&waker);
    assert!(first.as_mut().poll(context).is_pending());
    let value = || async { Ok::<_, Infallible>("value") };
    let mut second: Pin<Box<dyn Future<Output = _>>> =
        Box::pin(cache.get_or_try_insert_async("key", hour(), sleep, value));
    assert!(second.as_mut().poll(context).is_pending());
    drop(first);
    assert_obtained(block_on(second), "value", Origin::Computed);
    assert_idle(&cache);
}

#[test]
fn impatient_task_computes() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let options = hour().patience(A_WHILE);
    let forever = || std::future::pending::<Result<String, Infallible>>();
    let mut stuck = Box::pin(cache.get_or_try_insert_async("key", options, sleep, forever));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let polled = stuck.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let began = Instant::now();
    let value = || async { Ok::<_, Infallible>("value") };
    let computed = block_on(cache.get_or_try_insert_async("key", options, sleep, value));
    assert_obtained(computed, "value", Origin::Computed);
    assert!(began.elapsed() >= A_WHILE && began.elapsed() < Duration::from_secs(5));
    drop(stuck);
    assert_idle(&cache);
}
