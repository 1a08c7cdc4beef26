//! Added tokens cut out of a text before the model sees it. The rules (leftmost, longest, single words, stripping) are
//! those of tokenizers' AddedVocabulary; this copy exists because a match may have to be refused by its place:
//! text that came from a user never becomes a control token.

use std::sync::LazyLock;

use daachorse::{DoubleArrayAhoCorasick, DoubleArrayAhoCorasickBuilder, MatchKind};
use regex::Regex;
use tokenizers::normalizer::Range;
use tokenizers::{AddedToken, NormalizedString, Normalizer, NormalizerWrapper, PreTokenizedString, Token};

use crate::fail::{Fail, Outcome};

type Trie = Option<DoubleArrayAhoCorasick<u32>>;

pub struct Added {
    pub id: u32,
    pub token: AddedToken,
}

pub struct Specials {
    pub tokens: Vec<Added>,
    exact: Trie,
    normalized: Trie,
}

/// May token number `index` be taken where its match covers bytes [begin, end) of the original text?
pub type Allow<'a> = &'a dyn Fn(usize, usize, usize) -> bool;

fn trie(patterns: Vec<(String, u32)>) -> Outcome<Trie> {
    if patterns.is_empty() {
        return Ok(None);
    }
    DoubleArrayAhoCorasickBuilder::new()
        .match_kind(MatchKind::LeftmostLongest)
        .build_with_values(patterns)
        .map(Some)
        .map_err(|e| Fail::integrity("bad-added-token", format!("the added tokens cannot be told apart: {e}")))
}

fn is_word(c: char) -> bool {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\w$").expect("a constant pattern"));
    WORD.is_match(c.encode_utf8(&mut [0; 4]))
}

impl Specials {
    pub fn new(mut tokens: Vec<Added>, normalizer: Option<&NormalizerWrapper>) -> Outcome<Specials> {
        tokens.sort_by_key(|t| t.id);
        let mut exact = Vec::new();
        let mut normalized = Vec::new();
        for (index, added) in tokens.iter().enumerate() {
            let mut content = added.token.content.clone();
            if !added.token.normalized {
                exact.push((content, index as u32));
                continue;
            }
            if let Some(normalizer) = normalizer {
                let mut text = NormalizedString::from(content.as_str());
                normalizer
                    .normalize(&mut text)
                    .map_err(|e| Fail::integrity("bad-normalizer", format!("an added token cannot be normalized: {e}")))?;
                content = text.get().to_string();
            }
            normalized.push((content, index as u32));
        }
        Ok(Specials { exact: trie(exact)?, normalized: trie(normalized)?, tokens })
    }

    /// The first two steps of an encoding: exact tokens from the text as it is, then normalization, then the others.
    pub fn extract(&self, normalizer: Option<&NormalizerWrapper>, text: &str, allow: Allow) -> Outcome<PreTokenizedString> {
        let bad = |e: tokenizers::Error| Fail::integrity("bad-tokenizer", format!("cannot split the text: {e}"));
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, piece| self.cut(piece, &self.exact, allow)).map_err(bad)?;
        pieces
            .split(|_, mut piece| {
                if let Some(normalizer) = normalizer {
                    normalizer.normalize(&mut piece)?;
                }
                self.cut(piece, &self.normalized, allow)
            })
            .map_err(bad)?;
        Ok(pieces)
    }

    fn cut(
        &self,
        piece: NormalizedString,
        trie: &Trie,
        allow: Allow,
    ) -> tokenizers::Result<Vec<(NormalizedString, Option<Vec<Token>>)>> {
        let Some(trie) = trie else { return Ok(vec![(piece, None)]) };
        let base = piece.offsets_original().0;
        let sentence = piece.get();
        let mut spans: Vec<(Option<usize>, usize, usize)> = Vec::new();
        let mut done = 0;
        for found in trie.leftmost_find_iter(sentence) {
            let index = found.value() as usize;
            let token = &self.tokens[index].token;
            let (mut begin, mut end) = (found.start(), found.end());
            let original = piece.convert_offsets(Range::Normalized(begin..end)).unwrap_or(begin..end);
            if !allow(index, base + original.start, base + original.end) {
                continue;
            }
            if token.single_word {
                let before = sentence[..begin].chars().next_back().is_some_and(is_word);
                let after = sentence[end..].chars().next().is_some_and(is_word);
                if before || after {
                    continue;
                }
            }
            if token.lstrip {
                let kept = sentence[..begin].trim_end_matches(char::is_whitespace).len();
                begin = kept.max(done);
            }
            if token.rstrip {
                end += sentence[end..].len() - sentence[end..].trim_start_matches(char::is_whitespace).len();
            }
            if done < begin {
                spans.push((None, done, begin));
            }
            spans.push((Some(index), begin, end));
            done = end;
        }
        if done != sentence.len() || sentence.is_empty() {
            spans.push((None, done, sentence.len()));
        }
        let slices = spans.into_iter().map(|(index, begin, end)| {
            let slice = piece.slice(Range::Normalized(begin..end)).ok_or("a match splits a character")?;
            let token = index.map(|i| {
                let value = slice.get().to_owned();
                let size = value.len();
                vec![Token::new(self.tokens[i].id, value, (0, size))]
            });
            Ok((slice, token))
        });
        slices.collect()
    }
}
