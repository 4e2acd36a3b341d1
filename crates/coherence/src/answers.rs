//! What was asked and answered, noted while it happens: millions of answers in little memory, because the same bytes
//! are kept once.

use std::collections::HashMap;

use anyhow::Result;
use foldhash::fast::RandomState;

use crate::question::Question;

/// A question that was put to an [`Answers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(pub(crate) u32);

/// An answer, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// 200, 404 (no such row), or 304 with the `ETag` of an answer that came before.
    pub status: u16,
    /// What `Log-Position` says.
    pub position: u64,
    pub etag: Option<&'a str>,
    pub body: &'a [u8],
}

/// All that was asked and answered.
#[derive(Debug, Default)]
pub struct Answers {
    pub(crate) questions: Vec<(String, Question)>,
    ids: HashMap<String, QuestionId>,
    pub(crate) noted: Vec<Noted>,
    pub(crate) bodies: Bodies,
    /// The answer that an `ETag` stands for.
    etags: HashMap<(QuestionId, Box<str>), BodyId, RandomState>,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub question: QuestionId,
    pub client: u32,
    pub position: u64,
    /// What `Min-Position` asked for; 0 for anything.
    pub at_least: u64,
    pub said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Body(BodyId),
    NoSuchRow,
    /// Neither 200 nor 404, or 304 with an `ETag` that nobody was given.
    Nonsense(u16),
    /// One `ETag` for two bodies.
    SameEtag(BodyId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BodyId(u32);

impl Answers {
    /// The id of what `path` asks for.
    pub fn ask(&mut self, path: &str) -> Result<QuestionId> {
        if let Some(id) = self.ids.get(path) {
            return Ok(*id);
        }
        let id = QuestionId(u32::try_from(self.questions.len())?);
        self.questions.push((path.to_owned(), Question::parse(path)?));
        self.ids.insert(path.to_owned(), id);
        Ok(id)
    }

    /// Notes an answer, in the order in which the client was given them. A client is whoever asks one replica, one
    /// question after the other; once the replica was started again, it is another client.
    pub fn note(&mut self, question: QuestionId, client: u32, at_least: u64, given: Given<'_>) {
        let said = match given.status {
            200 => self.body(question, given),
            404 => Said::NoSuchRow,
            304 => {
                let known = given.etag.and_then(|etag| self.etags.get(&(question, etag.into())));
                known.map_or(Said::Nonsense(304), |body| Said::Body(*body))
            }
            other => Said::Nonsense(other),
        };
        self.noted.push(Noted { question, client, position: given.position, at_least, said });
    }

    fn body(&mut self, question: QuestionId, given: Given<'_>) -> Said {
        let body = self.bodies.id(given.body);
        let Some(etag) = given.etag else { return Said::Body(body) };
        match *self.etags.entry((question, etag.into())).or_insert(body) {
            known if known == body => Said::Body(body),
            _ => Said::SameEtag(body),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.noted.len()
    }

    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }
}

/// All bodies, each once.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    ids: HashMap<Box<[u8]>, BodyId, RandomState>,
    all: Vec<Box<[u8]>>,
}

impl Bodies {
    fn id(&mut self, body: &[u8]) -> BodyId {
        if let Some(id) = self.ids.get(body) {
            return *id;
        }
        let id = BodyId(u32::try_from(self.all.len()).expect("memory holds fewer bodies"));
        self.ids.insert(body.into(), id);
        self.all.push(body.into());
        id
    }

    pub fn get(&self, id: BodyId) -> &[u8] {
        &self.all[id.0 as usize]
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }
}
