//! The C ABI over `tokenizers` and `minijinja`. Owns the border: no panic crosses it, every failure is an owned JSON text.
//! Knows nothing of files, models or devices.

mod chat;
mod check;
mod confined;
mod fail;
mod specials;
mod strict_json;
mod template;
mod tokenizer;
mod tojson;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use fail::{Fail, Outcome};
use tokenizer::{Encoded, Engine};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct RhText {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct RhBytes {
    data: *mut u8,
    size: usize,
    capacity: usize,
}

impl RhBytes {
    fn take(bytes: Vec<u8>) -> RhBytes {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        RhBytes { data: bytes.as_mut_ptr(), size: bytes.len(), capacity: bytes.capacity() }
    }
}

/// # Safety
/// The bytes must live and stay unchanged for the whole call.
unsafe fn text<'a>(input: RhText, what: &'static str) -> Outcome<&'a str> {
    let bytes = if input.size == 0 { &[][..] } else { std::slice::from_raw_parts(input.data, input.size) };
    std::str::from_utf8(bytes).map_err(|e| {
        Fail::integrity("not-utf8", format!("{what} is not UTF-8"))
            .saw(format!("a bad sequence at byte {}", e.valid_up_to()))
            .want("UTF-8")
    })
}

/// Panics of the libraries are bugs of theirs on hostile input: they become errors, silently on stderr.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|_| {}));
        // A regex of a tokenizer.json may backtrack exponentially; this bounds it in each search (an error, not a hang).
        unsafe {
            onig_sys::onig_set_retry_limit_in_match(10_000_000);
            onig_sys::onig_set_parse_depth_limit(512);
        }
    });
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".to_string())
}

unsafe fn guarded(error: *mut RhBytes, what: &'static str, body: impl FnOnce() -> Outcome<()>) -> i32 {
    quiet_panics();
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        Err(Fail::integrity("text-engine-refused", format!("{what}: {}", panic_text(&*payload))))
    });
    match outcome {
        Ok(()) => 0,
        Err(fail) => {
            *error = RhBytes::take(fail.to_json().into_bytes());
            1
        }
    }
}

/// Parsers recurse: they get a stack of their own, whatever the caller's is.
fn on_wide_stack<T: Send>(work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let started = std::thread::Builder::new().stack_size(256 << 20).spawn_scoped(scope, work);
        let handle = started.map_err(|e| Fail::runtime("no-thread", format!("cannot start a thread: {e}")))?;
        handle.join().unwrap_or_else(|payload| {
            Err(Fail::integrity("text-engine-refused", format!("malformed: {}", panic_text(&*payload))))
        })
    })
}

fn pack(encoded: &Encoded) -> Vec<u8> {
    let count = encoded.ids.len();
    let mut out = Vec::with_capacity(8 + count * 40);
    out.extend((count as u64).to_ne_bytes());
    let mut end = 0u64;
    for i in 0..count {
        end += encoded.tokens[i].len() as u64;
        for field in [encoded.ids[i] as u64, encoded.offsets[i].0 as u64, encoded.offsets[i].1 as u64, end] {
            out.extend(field.to_ne_bytes());
        }
    }
    for token in &encoded.tokens {
        out.extend(token.as_bytes());
    }
    out
}

/// # Safety
/// `bytes` came from this crate and is freed once.
#[no_mangle]
pub unsafe extern "C" fn rh_bytes_free(bytes: RhBytes) {
    if !bytes.data.is_null() {
        drop(Vec::from_raw_parts(bytes.data, bytes.size, bytes.capacity));
    }
}

/// # Safety
/// Texts are readable; `out` and `error` are writable.
#[no_mangle]
pub unsafe extern "C" fn rh_tokenizer_load(
    json: RhText,
    settings: RhText,
    out: *mut *mut Engine,
    error: *mut RhBytes,
) -> i32 {
    guarded(error, "tokenizer.json", || {
        let json = text(json, "tokenizer.json")?;
        let settings = text(settings, "the tokenizer's settings")?;
        let engine = on_wide_stack(|| Engine::load(json, settings))?;
        *out = Box::into_raw(Box::new(engine));
        Ok(())
    })
}

/// # Safety
/// `engine` came from rh_tokenizer_load and is freed once.
#[no_mangle]
pub unsafe extern "C" fn rh_tokenizer_free(engine: *mut Engine) {
    drop(Box::from_raw(engine));
}

/// Vocabulary facts as JSON: {"size": n, "added": [{"id","content","special"}…]}.
/// # Safety
/// As rh_tokenizer_load.
#[no_mangle]
pub unsafe extern "C" fn rh_tokenizer_facts(engine: *const Engine, out: *mut RhBytes, error: *mut RhBytes) -> i32 {
    guarded(error, "vocabulary", || {
        *out = RhBytes::take((*engine).facts().into_bytes());
        Ok(())
    })
}

/// # Safety
/// As rh_tokenizer_load.
#[no_mangle]
pub unsafe extern "C" fn rh_encode(
    engine: *const Engine,
    input: RhText,
    parse_special: bool,
    add_special: bool,
    out: *mut RhBytes,
    error: *mut RhBytes,
) -> i32 {
    guarded(error, "encoding", || {
        let input = text(input, "the text")?;
        let encoded = (*engine).encode(input, parse_special, add_special)?;
        *out = RhBytes::take(pack(&encoded));
        Ok(())
    })
}

/// # Safety
/// As rh_tokenizer_load; `ids` has `count` entries.
#[no_mangle]
pub unsafe extern "C" fn rh_decode(
    engine: *const Engine,
    ids: *const u32,
    count: usize,
    skip_special: bool,
    out: *mut RhBytes,
    error: *mut RhBytes,
) -> i32 {
    guarded(error, "decoding", || {
        let ids = if count == 0 { &[][..] } else { std::slice::from_raw_parts(ids, count) };
        *out = RhBytes::take((*engine).decode(ids, skip_special)?.into_bytes());
        Ok(())
    })
}

/// Writes the id and returns 0, or 1 where there is none.
/// # Safety
/// As rh_tokenizer_load.
#[no_mangle]
pub unsafe extern "C" fn rh_id_of(engine: *const Engine, token: RhText, id: *mut u32) -> i32 {
    let Ok(token) = text(token, "the token") else { return 1 };
    match catch_unwind(AssertUnwindSafe(|| (*engine).id_of(token))) {
        Ok(Some(found)) => {
            *id = found;
            0
        }
        _ => 1,
    }
}

/// Writes the token and returns 0, or 1 where there is none.
/// # Safety
/// As rh_tokenizer_load.
#[no_mangle]
pub unsafe extern "C" fn rh_token_of(engine: *const Engine, id: u32, out: *mut RhBytes) -> i32 {
    match catch_unwind(AssertUnwindSafe(|| (*engine).token_of(id))) {
        Ok(Some(token)) => {
            *out = RhBytes::take(token.into_bytes());
            0
        }
        _ => 1,
    }
}

/// Parses the template only.
/// # Safety
/// As rh_tokenizer_load.
#[no_mangle]
pub unsafe extern "C" fn rh_template_check(source: RhText, error: *mut RhBytes) -> i32 {
    guarded(error, "template", || {
        let source = text(source, "the template")?;
        on_wide_stack(|| template::check(source))
    })
}

/// `input` is {"messages", "tools", "documents", "add_generation_prompt", "named", "extra"}.
/// # Safety
/// As rh_tokenizer_load.
#[no_mangle]
pub unsafe extern "C" fn rh_template_render(
    source: RhText,
    input: RhText,
    out: *mut RhBytes,
    error: *mut RhBytes,
) -> i32 {
    guarded(error, "template", || {
        let source = text(source, "the template")?;
        let input = text(input, "the messages")?;
        let rendered = on_wide_stack(|| template::render_json(source, input))?;
        *out = RhBytes::take(rendered.into_bytes());
        Ok(())
    })
}

/// Rendered and encoded with what came from `input` kept apart from control tokens.
/// # Safety
/// As rh_tokenizer_load.
#[no_mangle]
pub unsafe extern "C" fn rh_chat_encode(
    engine: *const Engine,
    source: RhText,
    input: RhText,
    rendered: *mut RhBytes,
    out: *mut RhBytes,
    error: *mut RhBytes,
) -> i32 {
    guarded(error, "template", || {
        let source = text(source, "the template")?;
        let input = text(input, "the messages")?;
        let engine = &*engine;
        let chat = on_wide_stack(|| chat::encode(engine, source, input))?;
        *rendered = RhBytes::take(chat.rendered.into_bytes());
        *out = RhBytes::take(pack(&chat.encoded));
        Ok(())
    })
}
