//! Work of a hostile template on a thread that can be given up: bounded in processor time and in memory.
//!
//! A thread cannot be stopped from outside, so the allocator does it: a confined thread that is over its budget, or that was
//! given up, sleeps forever at its next allocation. It holds no lock there, and its memory (at most the budget) is lost.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::fail::{Fail, Outcome};

/// Parsing recurses; this is enough for the longest template of nothing but nested operators.
const STACK_BYTES: usize = 256 << 20;
const BUDGET_BYTES: i64 = 24 << 20;
const BUDGET_MS: u64 = 200;
/// Legitimate work grows with its input: this much more for each of its bytes.
const BYTES_PER_INPUT_BYTE: i64 = 64;
const INPUT_BYTES_PER_MS: u64 = 4096;

struct Watch {
    over: AtomicBool,
    given_up: AtomicBool,
}

thread_local! {
    static LEFT: Cell<i64> = const { Cell::new(i64::MAX) };
    static WATCH: Cell<*const Watch> = const { Cell::new(std::ptr::null()) };
}

struct Confining;

#[global_allocator]
static ALLOCATOR: Confining = Confining;

#[cold]
fn sleep_forever(watch: &Watch) -> ! {
    watch.over.store(true, Ordering::Release);
    loop {
        unsafe { libc::pause() };
    }
}

fn charge(bytes: i64) {
    let watch = WATCH.try_with(Cell::get).unwrap_or(std::ptr::null());
    if watch.is_null() {
        return;
    }
    let left = LEFT.try_with(|left| {
        left.set(left.get() - bytes);
        left.get()
    });
    let watch = unsafe { &*watch };
    if bytes > 0 && (left.unwrap_or(0) < 0 || watch.given_up.load(Ordering::Relaxed)) {
        sleep_forever(watch);
    }
}

unsafe impl GlobalAlloc for Confining {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as i64);
        System.alloc(layout)
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        charge(-(layout.size() as i64));
        System.dealloc(at, layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as i64);
        System.alloc_zeroed(layout)
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        charge(size as i64 - layout.size() as i64);
        System.realloc(at, layout, size)
    }
}

fn spent_ms(thread: libc::pthread_t) -> u64 {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe {
        if libc::pthread_getcpuclockid(thread, &mut clock) != 0 || libc::clock_gettime(clock, &mut time) != 0 {
            return 0;
        }
    }
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

fn limit(what: &str, most: String) -> Fail {
    Fail::integrity("template-limit", format!("the chat template uses too much {what}")).want(format!("at most {most}"))
}

pub fn run<T: Send + 'static>(input_bytes: usize, work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    // Leaked where the thread is given up: it looks at it for as long as the process lives.
    let watch: &'static Watch = Box::leak(Box::new(Watch { over: false.into(), given_up: false.into() }));
    let most_bytes = BUDGET_BYTES + input_bytes as i64 * BYTES_PER_INPUT_BYTE;
    let most_ms = BUDGET_MS + input_bytes as u64 / INPUT_BYTES_PER_MS;
    let (send, receive) = mpsc::sync_channel(1);
    let started = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        LEFT.with(|left| left.set(most_bytes));
        WATCH.with(|own| own.set(watch));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        WATCH.with(|own| own.set(std::ptr::null()));
        let _ = send.send(outcome);
    });
    let handle = started.map_err(|e| Fail {
        kind: "runtime",
        code: "no-thread",
        message: format!("cannot start a thread: {e}"),
        ..Fail::default()
    })?;
    loop {
        match receive.recv_timeout(Duration::from_millis(5)) {
            Ok(outcome) => {
                let _ = handle.join();
                drop(unsafe { Box::from_raw(watch as *const Watch as *mut Watch) });
                return outcome.unwrap_or_else(|_| Err(Fail::integrity("template-failed", "the template engine refused this template")));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Fail::integrity("template-failed", "the template engine ended without an answer"));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if watch.over.load(Ordering::Acquire) {
            return Err(limit("memory", format!("{} MiB", most_bytes >> 20)));
        }
        if spent_ms(handle.as_pthread_t()) > most_ms {
            watch.given_up.store(true, Ordering::Relaxed);
            return Err(limit("time", format!("{most_ms} ms")));
        }
    }
}
