//! Work of a hostile template in a process of its own: bounded in processor time and in memory, and gone when it is over.
//!
//! A thread cannot be stopped from outside: given up, it and all it holds would stay for as long as the process lives. A child
//! that shares the parent's memory as it was can be killed. Weights and caches are kept out of it (MADV_DONTFORK where they are
//! allocated), so that starting it costs little however large the model is. The child allocates under a budget, answers
//! through a pipe and never returns.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::fail::{Fail, Outcome};

const BUDGET_BYTES: i64 = 24 << 20;
const BUDGET_MS: u64 = 200;
/// Legitimate work grows with its input: this much more for each of its bytes.
const BYTES_PER_INPUT_BYTE: i64 = 64;
const INPUT_BYTES_PER_MS: u64 = 4096;
/// A child that gets no processor, on a machine with too much to do, is waited for this long.
const PATIENCE: Duration = Duration::from_secs(60);

const ANSWER: u8 = b'A';
const FAIL: u8 = b'F';
const OVER_BUDGET: u8 = b'M';

static CONFINED: AtomicBool = AtomicBool::new(false);
static LEFT: AtomicI64 = AtomicI64::new(0);
static PIPE: AtomicI32 = AtomicI32::new(-1);

struct Confining;

#[global_allocator]
static ALLOCATOR: Confining = Confining;

fn charge(bytes: i64) {
    if !CONFINED.load(Ordering::Relaxed) {
        return;
    }
    let left = LEFT.fetch_sub(bytes, Ordering::Relaxed) - bytes;
    if bytes > 0 && left < 0 {
        send(&[OVER_BUDGET]);
        unsafe { libc::_exit(1) };
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

/// All of it, or the reader is gone.
fn send(mut bytes: &[u8]) {
    let pipe = PIPE.load(Ordering::Relaxed);
    while !bytes.is_empty() {
        let sent = unsafe { libc::write(pipe, bytes.as_ptr().cast(), bytes.len()) };
        if sent > 0 {
            bytes = &bytes[sent as usize..];
        } else if unsafe { *libc::__errno_location() } != libc::EINTR {
            return;
        }
    }
}

fn child(most_bytes: i64, most_ms: u64, work: impl FnOnce() -> Outcome<String>) -> ! {
    unsafe {
        // Should the parent die first, nobody is left to stop this process.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let seconds = most_ms / 1000 + 2;
        libc::setrlimit(libc::RLIMIT_CPU, &libc::rlimit { rlim_cur: seconds, rlim_max: seconds });
        // A stack that overflows ends it, silently, and leaves no core behind.
        libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
    LEFT.store(most_bytes, Ordering::Relaxed);
    CONFINED.store(true, Ordering::Relaxed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    CONFINED.store(false, Ordering::Relaxed);
    match outcome.unwrap_or_else(|_| Err(Fail::integrity("template-failed", "the template engine refused this template"))) {
        Ok(text) => {
            send(&[ANSWER]);
            send(text.as_bytes());
        }
        Err(fail) => {
            send(&[FAIL]);
            send(fail.to_json().as_bytes());
        }
    }
    unsafe { libc::_exit(0) }
}

struct Child {
    id: libc::pid_t,
    pipe: libc::c_int,
}

impl Child {
    fn spent_ms(&self) -> u64 {
        let mut clock = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        unsafe {
            if libc::clock_getcpuclockid(self.id, &mut clock) != 0 || libc::clock_gettime(clock, &mut time) != 0 {
                return 0;
            }
        }
        time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
    }

    /// What it has written by now; None at the end.
    fn read(&self, into: &mut Vec<u8>) -> Option<()> {
        let mut ready = libc::pollfd { fd: self.pipe, events: libc::POLLIN, revents: 0 };
        if unsafe { libc::poll(&mut ready, 1, 5) } <= 0 {
            return Some(());
        }
        let mut part = [0u8; 65536];
        let size = unsafe { libc::read(self.pipe, part.as_mut_ptr().cast(), part.len()) };
        if size < 0 && unsafe { *libc::__errno_location() } == libc::EINTR {
            return Some(());
        }
        if size <= 0 {
            return None;
        }
        into.extend_from_slice(&part[..size as usize]);
        Some(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        unsafe {
            libc::kill(self.id, libc::SIGKILL);
            libc::close(self.pipe);
            while libc::waitpid(self.id, std::ptr::null_mut(), 0) < 0 && *libc::__errno_location() == libc::EINTR {}
        }
    }
}

fn limit(what: &str, most: String) -> Fail {
    Fail::integrity("template-limit", format!("the chat template uses too much {what}")).want(format!("at most {most}"))
}

fn system_refuses(what: &str) -> Fail {
    let reason = std::io::Error::last_os_error();
    Fail::runtime("no-process", format!("cannot {what}: {reason}"))
}

fn answer(bytes: &[u8], most_bytes: i64) -> Outcome<String> {
    match bytes.split_first() {
        Some((&ANSWER, text)) => {
            String::from_utf8(text.to_vec()).map_err(|_| Fail::integrity("template-failed", "the chat template wrote no UTF-8"))
        }
        Some((&FAIL, json)) => Err(Fail::from_json(json)),
        Some((&OVER_BUDGET, _)) => Err(limit("memory", format!("{} MiB", most_bytes >> 20))),
        _ => Err(Fail::integrity("template-failed", "the template engine ended without an answer")),
    }
}

fn isolated(input_bytes: usize, work: impl FnOnce() -> Outcome<String>) -> Outcome<String> {
    let most_bytes = BUDGET_BYTES + input_bytes as i64 * BYTES_PER_INPUT_BYTE;
    let most_ms = BUDGET_MS + input_bytes as u64 / INPUT_BYTES_PER_MS;
    let mut ends = [0 as libc::c_int; 2];
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(system_refuses("make a pipe"));
    }
    let id = unsafe { libc::fork() };
    if id == 0 {
        PIPE.store(ends[1], Ordering::Relaxed);
        child(most_bytes, most_ms, work);
    }
    unsafe { libc::close(ends[1]) };
    if id < 0 {
        let fail = system_refuses("start a process");
        unsafe { libc::close(ends[0]) };
        return Err(fail);
    }
    let child = Child { id, pipe: ends[0] };
    let started = Instant::now();
    let mut bytes = Vec::new();
    while child.read(&mut bytes).is_some() {
        if child.spent_ms() > most_ms {
            return Err(limit("time", format!("{most_ms} ms")));
        }
        if started.elapsed() > PATIENCE {
            return Err(Fail::runtime("no-answer", format!("the template engine gave no answer in {} s", PATIENCE.as_secs())));
        }
    }
    answer(&bytes, most_bytes)
}

/// Parsing recurses: the child inherits a stack that is wide enough for the longest template of nothing but nested operators.
pub fn run(input_bytes: usize, work: impl FnOnce() -> Outcome<String> + Send) -> Outcome<String> {
    crate::on_wide_stack(move || isolated(input_bytes, work))
}
