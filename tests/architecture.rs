//! The rule of who may know whom, read from the manifests, so that it stays true.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The crates of this workspace that a crate depends on, outside of its tests.
fn ours(manifest: &str) -> BTreeSet<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(workspace.join(manifest).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    dependencies(&manifest).filter(|name| OURS.contains(&name.as_str())).collect()
}

fn dependencies(manifest: &toml::Table) -> impl Iterator<Item = String> {
    let sections = ["dependencies", "build-dependencies"].map(|section| manifest.get(section));
    let tables = sections.into_iter().flatten().filter_map(toml::Value::as_table);
    tables.flat_map(|table| table.keys().cloned().collect::<Vec<_>>())
}

const OURS: [&str; 10] = [
    "domain",
    "event-log",
    "coherence",
    "service-kit",
    "command-service",
    "projector",
    "query-service",
    "task-worker",
    "replay",
    "stack",
];

#[test]
fn the_foundations_depend_on_nothing_of_ours() {
    for foundation in ["crates/domain", "crates/event-log", "crates/service-kit"] {
        assert_eq!(ours(foundation), BTreeSet::new(), "{foundation}");
    }
}

#[test]
fn services_never_import_each_other() {
    let foundations = BTreeSet::from(["domain", "event-log", "service-kit"].map(String::from));
    for service in ["command-service", "projector", "query-service", "task-worker", "replay", "stack"] {
        assert!(ours(service).is_subset(&foundations), "{service} depends on {:?}", ours(service));
    }
}

#[test]
fn the_benchmarks_meet_the_services_as_programs_only() {
    assert_eq!(
        ours("bench"),
        BTreeSet::from(["coherence", "domain", "event-log", "service-kit", "stack"].map(String::from))
    );
}

#[test]
fn the_checker_of_answers_knows_no_service() {
    assert_eq!(ours("crates/coherence"), BTreeSet::from(["domain", "event-log"].map(String::from)));
}

#[test]
fn the_query_service_knows_neither_the_domain_nor_the_log() {
    assert_eq!(ours("query-service"), BTreeSet::from(["service-kit".to_owned()]));
}

#[test]
fn the_domain_does_no_io() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(workspace.join("crates/domain/Cargo.toml")).unwrap();
    let pure = [
        "email_address",
        "jiff",
        "schemars",
        "serde",
        "serde_json",
        "serde_path_to_error",
        "thiserror",
        "uuid",
    ];
    let found: Vec<String> = dependencies(&text.parse().unwrap()).collect();
    assert!(found.iter().all(|name| pure.contains(&name.as_str())), "{found:?}");
    for source in sources(&workspace.join("crates/domain/src")) {
        let text = fs::read_to_string(&source).unwrap();
        for impure in ["now_v7", "new_v4", "Timestamp::now", "std::fs", "std::net", "std::env"] {
            assert!(!text.contains(impure), "{impure} in {source:?}");
        }
    }
}

#[test]
fn each_problem_has_a_page_and_each_page_a_problem() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let constructors = ["Rejection::missing(", "Rejection::taken(", "Rejection::rule(", "Kind::new("];
    let mut found = BTreeSet::new();
    for folder in [
        "crates/domain/src",
        "crates/service-kit/src",
        "command-service/src",
        "query-service/src",
        "projector/src",
        "task-worker/src",
    ] {
        found.extend(codes(&workspace.join(folder), &constructors));
    }
    found.extend(problems_of_the_edge(workspace).into_iter().map(|(_, code)| code));
    let pages = fs::read_dir(workspace.join("docs/problems")).unwrap();
    let pages: BTreeSet<String> =
        pages.map(|page| page.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(found.contains("email-taken") && found.contains("view-behind"), "{found:?}");
    assert_eq!(found, pages);
}

#[test]
fn the_edges_own_problems_have_the_titles_of_their_pages() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let problems = problems_of_the_edge(workspace);
    assert!(problems.iter().any(|(_, code)| code == "rate-limited"), "{problems:?}");
    for (title, code) in problems {
        let page = fs::read_to_string(workspace.join(format!("docs/problems/{code}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {title}\n")), "{code}");
    }
}

/// Title and code of what Envoy's configuration answers: `title: …, status: 404, code: unknown-route`.
fn problems_of_the_edge(workspace: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(workspace.join("deploy/edge/envoy.yaml")).unwrap();
    let problems = text.split("title: ").skip(1).map(|problem| {
        let (title, rest) = problem.split_once(", status: ").unwrap();
        let code = rest.split_once(", code: ").unwrap().1.split(',').next().unwrap();
        (title.to_owned(), code.to_owned())
    });
    problems.collect()
}

/// The codes that the constructors are called with in a folder.
fn codes(folder: &Path, constructors: &[&str]) -> impl Iterator<Item = String> {
    let of_text = |text: String| {
        let calls =
            constructors.iter().flat_map(|constructor| text.split(constructor).skip(1)).map(str::trim_start);
        // The code is the first argument that is a string: `Kind::new(404, "unknown-route", …)`.
        let literal = calls.filter(|call| call.starts_with(|c: char| c == '"' || c.is_ascii_digit()));
        literal.map(|call| call.split('"').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    sources(folder).into_iter().flat_map(move |source| of_text(fs::read_to_string(source).unwrap()))
}

/// Else the command-service's document would keep silent about it.
#[test]
fn each_rejection_stands_in_its_aggregates_list() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let rejections = ["Rejection::missing(", "Rejection::taken(", "Rejection::rule("];
    let made: BTreeSet<String> = codes(&workspace.join("crates/domain/src"), &rejections).collect();
    let listed = domain::Kind::ALL.iter().flat_map(|kind| kind.rejections());
    assert_eq!(made, listed.map(|rejection| rejection.code.to_owned()).collect());
}

/// All files of a folder and those below it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|entry| if entry.is_dir() { sources(&entry) } else { vec![entry] }).collect()
}
