//! Messages to token ids, such that no text of a message can become a control token.
//!
//! Before rendering, every control token inside a message is fenced by noncharacters that appear nowhere else. After rendering
//! the fences are taken out again and their places kept: a control token may be recognized only where no fence touches it.
//! Everything else goes through the tokenizer whole, so ids of harmless messages are those of the plain rendering.

use std::collections::HashSet;

use serde_json::Value as Json;

use crate::fail::{Fail, Outcome};
use crate::strict_json;
use crate::template;
use crate::tokenizer::{Encoded, Engine};

pub struct Chat {
    pub rendered: String,
    pub encoded: Encoded,
}

/// Where fences stand. Around every token is the safest. Templates that look at how a message starts or ends need the outer
/// fence left out there (`inside`; the inner one still refuses the token). Templates that cut reasoning out of earlier answers
/// need the tokens that are not special left bare in messages of the assistant (`bare_answers`).
#[derive(Clone, Copy)]
struct Fencing {
    inside: bool,
    bare_answers: bool,
}

struct Fences {
    open: char,
    close: char,
    cut: char,
}

struct Marker<'a> {
    fences: &'a Fences,
    control: &'a [Control],
    fencing: Fencing,
}

struct Control {
    content: String,
    special: bool,
}

/// Control tokens: special ones, and added ones that the template itself writes (whitespace apart), as transformers has it.
fn control_tokens(engine: &Engine, source: &str) -> (Vec<Control>, HashSet<usize>) {
    let mut contents = Vec::new();
    let mut indices = HashSet::new();
    for (index, added) in engine.specials().tokens.iter().enumerate() {
        let content = &added.token.content;
        let blank = content.chars().all(char::is_whitespace);
        if added.token.special || (!blank && source.contains(content.as_str())) {
            contents.push(Control { content: content.clone(), special: added.token.special });
            indices.insert(index);
        }
    }
    contents.sort_by_key(|c| std::cmp::Reverse(c.content.len()));
    (contents, indices)
}

/// Three noncharacters that appear in none of the texts.
fn free_fences(texts: &[&str]) -> Outcome<Fences> {
    let used: HashSet<char> = texts.iter().flat_map(|t| t.chars()).filter(|c| ('\u{fdd0}'..='\u{fdef}').contains(c)).collect();
    let free: Vec<char> = ('\u{fdd0}'..='\u{fdef}').filter(|c| !used.contains(c)).take(3).collect();
    match free.as_slice() {
        [open, close, cut] => Ok(Fences { open: *open, close: *close, cut: *cut }),
        _ => Err(Fail::usage("bad-messages", "the messages use up all noncharacters U+FDD0 to U+FDEF")),
    }
}

impl Marker<'_> {
    fn mark(&self, text: &str, is_role: bool, bare: bool) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        let mut rest = text;
        while !rest.is_empty() {
            let Some((at, token)) = self.first_token(rest, bare) else { break };
            let starts = out.is_empty() && at == 0;
            let ends = rest.len() == at + token.len();
            out.push_str(&rest[..at]);
            if !(self.fencing.inside && starts) {
                out.push(self.fences.open);
            }
            out.push_str(token);
            if !(self.fencing.inside && ends && !starts) {
                out.push(self.fences.close);
            }
            rest = &rest[at + token.len()..];
        }
        out.push_str(rest);
        if is_role && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
            return out;
        }
        self.cut_edges(out)
    }

    fn first_token<'t>(&'t self, text: &str, bare: bool) -> Option<(usize, &'t str)> {
        let fenced = self.control.iter().filter(|c| c.special || !bare);
        let hits = fenced.filter_map(|c| text.find(c.content.as_str()).map(|at| (at, c.content.as_str())));
        hits.min_by_key(|(at, c)| (*at, std::cmp::Reverse(c.len())))
    }

    /// A text that could be a part of a control token is cut off from its neighbours.
    fn cut_edges(&self, text: String) -> String {
        let core = text.trim();
        if core.is_empty() {
            return text;
        }
        let begin = text.len() - text.trim_start().len();
        let end = begin + core.len();
        let parts = |control: &Control| -> (bool, bool) {
            let c = &control.content;
            let bounds: Vec<usize> = c.char_indices().map(|(i, _)| i).skip(1).collect();
            let inner = core.len() < c.len() && c.contains(core);
            let tail = inner || bounds.iter().any(|b| core.starts_with(&c[*b..]));
            let head = inner || bounds.iter().any(|b| core.ends_with(&c[..*b]));
            (tail, head)
        };
        let (tail, head) = self.control.iter().map(parts).fold((false, false), |a, b| (a.0 || b.0, a.1 || b.1));
        let mut out = text[..begin].to_string();
        if tail {
            out.push(self.fences.cut);
        }
        out.push_str(core);
        if head {
            out.push(self.fences.cut);
        }
        out.push_str(&text[end..]);
        out
    }

    fn mark_all(&self, value: &Json, key: &str, bare: bool) -> Json {
        match value {
            Json::String(text) => Json::String(self.mark(text, key == "role", bare)),
            Json::Array(list) => Json::Array(list.iter().map(|v| self.mark_all(v, "", bare)).collect()),
            Json::Object(map) => {
                let answer = map.get("role").and_then(Json::as_str) == Some("assistant");
                let bare = bare || (self.fencing.bare_answers && answer);
                Json::Object(map.iter().map(|(k, v)| (self.mark(k, true, bare), self.mark_all(v, k, bare))).collect())
            }
            other => other.clone(),
        }
    }
}

/// The rendered text without fences, and their places in it.
fn take_fences(text: &str, fences: &Fences) -> (String, Vec<(usize, char)>) {
    let mut clean = String::with_capacity(text.len());
    let mut places = Vec::new();
    for c in text.chars() {
        if c == fences.open || c == fences.close || c == fences.cut {
            places.push((clean.len(), c));
        } else {
            clean.push(c);
        }
    }
    (clean, places)
}

/// Does a match of [begin, end) touch a fenced place?
fn is_fenced(places: &[(usize, char)], fenced: &[(usize, usize)], fences: &Fences, begin: usize, end: usize) -> bool {
    let first = places.partition_point(|(at, _)| *at < begin);
    let touched = places[first..].iter().take_while(|(at, _)| *at <= end).any(|(at, kind)| {
        (begin < *at && *at < end) || (*kind == fences.open && *at == begin) || (*kind == fences.close && *at == end)
    });
    let span = fenced.partition_point(|(_, close)| *close <= begin);
    touched || fenced.get(span).is_some_and(|(open, _)| *open < end)
}

fn spans(places: &[(usize, char)], fences: &Fences) -> Vec<(usize, usize)> {
    let pairs = places.windows(2).filter(|w| w[0].1 == fences.open && w[1].1 == fences.close);
    pairs.map(|w| (w[0].0, w[1].0)).filter(|(a, b)| a < b).collect()
}

pub fn encode(engine: &Engine, source: &str, input: &str) -> Outcome<Chat> {
    let parsed = strict_json::parse(input)?;
    let plain = template::render(source, template::variables(&parsed)?, input.len())?;
    let (contents, control) = control_tokens(engine, source);
    let fences = free_fences(&[source, input, &plain])?;
    for (inside, bare_answers) in [(false, false), (true, false), (false, true), (true, true)] {
        let fencing = Fencing { inside, bare_answers };
        let marker = Marker { fences: &fences, control: &contents, fencing };
        let mut marked = parsed.clone();
        for part in ["messages", "tools", "documents", "extra"] {
            if !parsed[part].is_null() {
                marked[part] = marker.mark_all(&parsed[part], "", false);
            }
        }
        let Ok(text) = template::render(source, template::variables(&marked)?, input.len() * 2) else { continue };
        let (clean, places) = take_fences(&text, &fences);
        if clean != plain {
            continue;
        }
        let fenced = spans(&places, &fences);
        let allow = |index: usize, begin: usize, end: usize| {
            !control.contains(&index) || !is_fenced(&places, &fenced, &fences, begin, end)
        };
        let encoded = engine.encode_where(&clean, &allow, false)?;
        refuse_control_from_text(engine, &control, &encoded, &places, &fenced, &fences)?;
        return Ok(Chat { rendered: clean, encoded });
    }
    Err(Fail::usage("control-token-in-message", "the chat template looks into a message that spells a control token")
        .hint("remove the control token's text from the message"))
}

/// A model may hold a control token among its own pieces and make it of plain text: that is refused, not passed on.
fn refuse_control_from_text(
    engine: &Engine,
    control: &HashSet<usize>,
    encoded: &Encoded,
    places: &[(usize, char)],
    fenced: &[(usize, usize)],
    fences: &Fences,
) -> Outcome<()> {
    let ids: HashSet<u32> = control.iter().map(|i| engine.specials().tokens[*i].id).collect();
    for (id, (begin, end)) in encoded.ids.iter().zip(&encoded.offsets) {
        if ids.contains(id) && engine.made_by_model(*id) && is_fenced(places, fenced, fences, *begin, *end) {
            return Err(Fail::usage("control-token-in-message", "the tokenizer makes a control token of a message's plain text")
                .saw(engine.token_of(*id).unwrap_or_default())
                .hint("remove the control token's text from the message"));
        }
    }
    Ok(())
}
