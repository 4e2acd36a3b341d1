//! Clients that read through the edge what others write, and note every answer; and one that has no business here.
//! What can be told from an answer alone is looked at at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use coherence::{Answers, Given, QuestionId};
use reqwest::{
    Client, Response,
    header::{AUTHORIZATION, HeaderMap},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    edge::UPSTREAM,
    storm::{
        client::{NAMES, Sea, Silence},
        random::Random,
    },
};

/// A client waits so long for an answer, between two of them it rests up to so long.
const PATIENCE: Duration = Duration::from_secs(8);
const REST_MS_MAX: u64 = 25;
const REST_OF_A_STRANGER: Duration = Duration::from_millis(200);
/// More `ETag`s than these a client forgets.
const ETAGS_MAX: usize = 1_000;
/// No more complaints than these are kept.
const COMPLAINTS_MAX: usize = 5;
/// What a query may be answered instead.
const PROBLEMS: [&str; 5] = ["view-behind", "views-unavailable", "overloaded", "not-ready", "answer-timeout"];

/// What all readers share.
pub struct Library {
    pub url: String,
    pub token: String,
    pub token_of_a_stranger: String,
    pub sea: Arc<Sea>,
    pub answers: Mutex<Answers>,
    /// Queries that were answered with what was asked for.
    pub read: AtomicU64,
    pub hits: AtomicU64,
    /// Of those, the time without any.
    pub silence: Mutex<Silence>,
    /// All answers, by what they are.
    pub told: Mutex<BTreeMap<String, u64>>,
    /// Grows whenever a replica ends or starts: what it showed before and after is shown by two replicas.
    pub generation: AtomicU64,
    /// What was wrong at first sight.
    pub complaints: Mutex<Vec<String>>,
    clients: Mutex<HashMap<(u64, String, u64), u32>>,
}

impl Library {
    pub fn new(url: &str, token: &str, token_of_a_stranger: &str, sea: Arc<Sea>) -> Self {
        Self {
            url: url.to_owned(),
            token: token.to_owned(),
            token_of_a_stranger: token_of_a_stranger.to_owned(),
            sea,
            answers: Mutex::default(),
            read: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            silence: Mutex::new(Silence::new()),
            told: Mutex::default(),
            generation: AtomicU64::new(0),
            complaints: Mutex::default(),
            clients: Mutex::default(),
        }
    }

    pub fn complain(&self, what: String) {
        let mut complaints = self.complaints.lock().unwrap();
        if complaints.len() < COMPLAINTS_MAX {
            complaints.push(what);
        }
    }

    fn count(&self, what: &str) {
        *self.told.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    /// Who asks one replica, as long as it is the same.
    fn client(&self, reader: u64, replica: &str, generations: (u64, u64)) -> u32 {
        let mut clients = self.clients.lock().unwrap();
        let next = clients.len() as u32;
        // Between two generations nobody knows which of them has answered.
        let (reader, generation) = match generations {
            (before, after) if before == after => (reader, before),
            _ => (u64::MAX - u64::from(next), 0),
        };
        *clients.entry((reader, replica.to_owned(), generation)).or_insert(next)
    }
}

/// Asks with this token.
pub fn http(token: &str) -> Client {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    Client::builder().timeout(PATIENCE).default_headers(headers).build().unwrap()
}

pub struct Reader {
    library: Arc<Library>,
    http: Client,
    number: u64,
    random: Random,
    /// The `ETag` that was given last.
    etags: HashMap<QuestionId, String>,
    /// The latest position that this reader was shown.
    seen: u64,
}

impl Reader {
    pub fn new(library: Arc<Library>, number: u64, random: Random) -> Self {
        let http = http(&library.token);
        Self { library, http, number, random, etags: HashMap::new(), seen: 0 }
    }

    /// Until the storm rests. Bodies that were noted before are not known any more.
    pub async fn go_on(&mut self) {
        self.etags.clear();
        while !self.library.sea.is_over.load(Ordering::Relaxed) {
            self.ask().await;
            tokio::time::sleep(Duration::from_millis(self.random.within(0..REST_MS_MAX))).await;
        }
    }

    async fn ask(&mut self) {
        let library = self.library.clone();
        let path = self.path();
        let question = library.answers.lock().unwrap().ask(&path).unwrap();
        let mut request = self.http.get(format!("{}/queries{path}", library.url));
        let at_least = match self.random.within(0..100) {
            0..30 => library.sea.written.load(Ordering::Relaxed),
            30..60 => self.seen,
            _ => 0,
        };
        if at_least > 0 {
            request = request.header("Min-Position", at_least);
            if self.random.percent(50) {
                request = request.header("Prefer", "wait=1");
            }
        }
        if let Some(etag) = self.etags.get(&question).filter(|_| self.random.percent(30)) {
            request = request.header("If-None-Match", etag);
        }
        let before = library.generation.load(Ordering::Relaxed);
        let answered = match request.send().await {
            Ok(response) => Answered::read(response).await,
            Err(error) => Err(error),
        };
        let generations = (before, library.generation.load(Ordering::Relaxed));
        match answered {
            Ok(answered) => self.take(&path, question, at_least, generations, answered),
            Err(_) => library.count("query: no answer"),
        }
    }

    fn take(
        &mut self,
        path: &str,
        question: QuestionId,
        at_least: u64,
        generations: (u64, u64),
        answered: Answered,
    ) {
        let library = self.library.clone();
        let Answered { status, position, etag, upstream, is_hit, body, .. } = &answered;
        library.count(&format!("query: {status} {}", answered.code()));
        // A view that is behind says how far it is, too.
        let Some(position) = position.filter(|_| matches!(status, 200 | 304 | 404)) else {
            let is_known = matches!(status, 503 | 504) && PROBLEMS.contains(&answered.code().as_str());
            if !is_known || !answered.says_when_to_come_again {
                library.complain(format!("{path} is answered {answered:?}"));
            }
            return;
        };
        if position < at_least {
            library.complain(format!(
                "{path} asks for {at_least} and is answered from {position}: {answered:?}"
            ));
        }
        self.seen = self.seen.max(position);
        if let Some(etag) = etag {
            if self.etags.len() >= ETAGS_MAX {
                self.etags.clear();
            }
            self.etags.insert(question, etag.clone());
        }
        let client = library.client(self.number, upstream, generations);
        let given = Given { status: *status, position, etag: etag.as_deref(), body: body.as_bytes() };
        library.answers.lock().unwrap().note(question, client, at_least, given);
        library.read.fetch_add(1, Ordering::Relaxed);
        library.hits.fetch_add(u64::from(*is_hit), Ordering::Relaxed);
        library.silence.lock().unwrap().ends();
    }

    /// A row by its key, narrow or wide, or a list, of what is hot and what is not.
    fn path(&mut self) -> String {
        let (sea, random) = (self.library.sea.clone(), &mut self.random);
        let hot = sea.account(random);
        let account = if random.percent(30) { sea.cold_account(random).unwrap_or(hot) } else { hot };
        match random.within(0..100) {
            0..20 => format!("/accounts/{account}?fields=name,revision"),
            20..35 => format!("/accounts/{account}"),
            35..50 => format!("/customers/{account}?fields=orders,spent_cents"),
            50..62 => {
                format!("/orders?account_id={hot}&sort=-placed_at&limit=3&fields=id,amount_cents,placed_at")
            }
            62..74 => format!("/orders/{}?fields=status,account_id", sea.order(random)),
            74..88 => format!("/accounts?email=e{}@example.org&fields=id,name", random.within(0..NAMES)),
            88..94 => "/accounts?status=active&sort=-created_at&limit=3&fields=id,revision".to_owned(),
            _ => "/orders?sort=-placed_at&limit=5&fields=id,status".to_owned(),
        }
    }
}

#[derive(Debug)]
struct Answered {
    status: u16,
    position: Option<u64>,
    etag: Option<String>,
    /// Who has answered, by what the edge says.
    upstream: String,
    is_hit: bool,
    says_when_to_come_again: bool,
    body: String,
}

impl Answered {
    async fn read(response: Response) -> reqwest::Result<Self> {
        let header = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
        Ok(Self {
            status: response.status().as_u16(),
            position: header("log-position").map(|position| position.parse().unwrap()),
            etag: header("etag"),
            upstream: header(UPSTREAM).unwrap_or_default(),
            is_hit: header("cache-status").is_some_and(|status| status.contains("; hit")),
            says_when_to_come_again: response.headers().contains_key("retry-after"),
            body: response.text().await?,
        })
    }

    /// Of the problem, if it is one.
    fn code(&self) -> String {
        let problem: Option<Value> = serde_json::from_str(&self.body).ok();
        problem.and_then(|problem| Some(problem["code"].as_str()?.to_owned())).unwrap_or_default()
    }
}

/// Tries what it may not, until the storm rests.
pub async fn intrude(library: &Library, random: &mut Random) {
    let (nobody, somebody) =
        (Client::builder().timeout(PATIENCE).build().unwrap(), http(&library.token_of_a_stranger));
    while !library.sea.is_over.load(Ordering::Relaxed) {
        let account = library.sea.account(random);
        let row = format!("{}/queries/accounts/{account}", library.url);
        let renaming = format!("{}/commands/accounts/{account}/rename", library.url);
        let (request, due) = match random.within(0..4) {
            0 => (nobody.get(&row), 401),
            1 => (nobody.post(&renaming).json(&json!({"name": "Nobody"})), 401),
            2 => (somebody.get(&row), 404),
            _ => (somebody.post(&renaming).json(&json!({"name": "Somebody"})), 403),
        };
        if let Ok(answer) = request.header("Correlation-Id", Uuid::nil().to_string()).send().await {
            let status = answer.status().as_u16();
            library.count(&format!("stranger: {status}"));
            if status != due && !matches!(status, 503 | 504) {
                library.complain(format!("a stranger is answered {status} instead of {due}: {answer:?}"));
            }
        }
        tokio::time::sleep(REST_OF_A_STRANGER).await;
    }
}
