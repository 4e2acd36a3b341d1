//! The programs that analysts have read what `replay export` writes: docs/analysts.md, block by block, as it stands.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use stack::sample::{self, Sample};
use tokio::{process::Command, sync::OnceCell};

use crate::{
    harness::{World, programs},
    replaying::sql,
};

/// A log with the sample in it, and a folder to work in.
struct Desk {
    world: World,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn with_the_sample() -> Self {
        let world = World::start().await;
        sample::load(&world.commands.url, None, Sample::Small.purchases().await.unwrap()).await.unwrap();
        Self { world, folder: tempfile::tempdir().unwrap() }
    }

    /// Runs a script, and gives what it printed.
    async fn run(&self, program: &str, arguments: &[&str], script: &str) -> String {
        let path = std::env::var("PATH").unwrap();
        // Its program has the same name.
        let with_sql = match script.contains("replay sql").then(sql::program).flatten() {
            Some(program) => format!("{}:", program.parent().unwrap().display()),
            None => String::new(),
        };
        let output = Command::new(program)
            .args(arguments)
            .arg(script)
            .current_dir(self.folder.path())
            .env("PATH", format!("{with_sql}{}:{path}", programs().await.display()))
            .env("PYTHONPATH", packages().await)
            .env("PYTHONNOUSERSITE", "1")
            .env("NATS_URL", self.world.place.servers.nats.url())
            .env("HEADWATER_NAMESPACE", &self.world.place.namespace)
            .env("DATABASE_URL", &self.world.place.database_url)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let (said, trouble) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{script}\n{said}\n{trouble}");
        said
    }

    async fn block(&self, Block { language, text }: &Block) -> String {
        if text.contains("replay sql") && sql::program().is_none() {
            return String::new();
        }
        match language.as_str() {
            "sh" => self.run("bash", &["-euo", "pipefail", "-c"], text).await,
            "python" => self.run("python3", &["-c"], text).await,
            other => panic!("nobody runs blocks of {other}"),
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A block of code in a page.
struct Block {
    language: String,
    text: String,
}

/// Those that say their language.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for fenced in page.split("\n```").skip(1).step_by(2) {
        let (language, text) = fenced.split_once('\n').unwrap();
        if !language.is_empty() {
            blocks.push(Block { language: language.to_owned(), text: text.to_owned() });
        }
    }
    blocks
}

/// Frequency, recency, T and cents, by customer.
type Summary = BTreeMap<String, [i64; 4]>;

/// A few lines over the raw file.
fn summary_of_the_raw_file(file: &str) -> Summary {
    let mut purchases: BTreeMap<String, (Vec<i64>, i64)> = BTreeMap::new();
    for line in file.lines().filter(|line| !line.trim().is_empty()) {
        let [customer, _, date, _, dollars] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line:?}")
        };
        let (days, cents) =
            purchases.entry(format!("cdnow-{}", customer.parse::<u32>().unwrap())).or_default();
        days.push(day_number(date));
        *cents += dollars.replace('.', "").parse::<i64>().unwrap();
    }
    let end = purchases.values().flat_map(|(days, _)| days).copied().max().unwrap();
    let summary = |(days, cents): &(Vec<i64>, i64)| {
        let distinct: std::collections::BTreeSet<_> = days.iter().collect();
        let (first, last) = (**distinct.first().unwrap(), **distinct.last().unwrap());
        [distinct.len() as i64 - 1, last - first, end - first, *cents]
    };
    purchases.iter().map(|(customer, purchases)| (customer.clone(), summary(purchases))).collect()
}

/// Days since some day, of `19970101`.
fn day_number(date: &str) -> i64 {
    let part = |range: std::ops::Range<usize>| date.get(range).unwrap().parse::<i64>().unwrap();
    let (year, month, day) = (part(0..4), part(4..6), part(6..8));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day
}

fn summary_of_the_script(csv: &str) -> Summary {
    assert!(csv.starts_with("customer,frequency,recency,T,spent_cents\n"), "{csv:.100}");
    let row = |line: &str| {
        let (customer, numbers) = line.split_once(',').unwrap();
        let numbers: Vec<i64> = numbers.split(',').map(|number| number.parse().unwrap()).collect();
        (customer.to_owned(), numbers.try_into().unwrap())
    };
    csv.lines().skip(1).map(row).collect()
}

#[tokio::test]
async fn the_page_for_analysts_is_true_and_the_sample_adds_up() {
    let desk = Desk::with_the_sample().await;
    fs::copy(docs("cdnow.py"), desk.folder.path().join("cdnow.py")).unwrap();
    let blocks = blocks(&fs::read_to_string(docs("analysts.md")).unwrap());
    assert!(blocks.len() >= 9, "{}", blocks.len());
    for block in &blocks {
        desk.block(block).await;
    }

    let raw = fs::read_to_string(Sample::Small.file().await.unwrap()).unwrap();
    let computed = fs::read_to_string(desk.folder.path().join("customers.csv")).unwrap();
    // Not assert_eq!, which would print thousands of them.
    assert!(summary_of_the_script(&computed) == summary_of_the_raw_file(&raw), "the customers differ");

    // Every type, every row, in pyarrow and in DuckDB.
    desk.run("python3", &["-c"], include_str!("analysts/types.py")).await;
}

fn docs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs").join(file)
}

/// Where the Python packages are. They are installed once, and again when the list of them changes.
async fn packages() -> &'static Path {
    static PACKAGES: OnceCell<PathBuf> = OnceCell::const_new();
    PACKAGES.get_or_init(|| crate::python::packages("analysts")).await
}
