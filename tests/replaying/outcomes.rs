use super::*;

#[tokio::test]
async fn a_log_without_events_is_no_trouble() {
    let desk = Desk::new().await;
    let said = desk.fine(&["export", "--out", "all"]).await;
    assert!(said.err.contains("0 events added") && said.err.contains("reaches position 0"), "{said:?}");
    assert_eq!(desk.fine(&["streams"]).await.out, "the log is empty\n");
    assert_eq!(desk.fine(&["view", "customers", "--format", "csv"]).await.out.lines().count(), 1);
    assert!(desk.fine(&["check"]).await.out.contains("all is well"));
}

#[tokio::test]
async fn a_moment_that_is_to_come_is_refused_where_the_answer_could_change() {
    let desk = Desk::with_events(10).await;
    desk.run(&["view", "accounts", "--as-of", "2999-01-01"]).await.is_misused("is in the future");
    desk.run(&["view", "accounts", "--as-of", "11"])
        .await
        .is_misused("is not in the log yet, which ends at 10");
    desk.run(&["view", "accounts", "--as-of", "5", "--diff", "6"]).await.is_misused("exchange them");
    let said = desk.fine(&["export", "--out", "all", "--from", "2999-01-01"]).await;
    assert!(said.err.contains("0 events added"), "{said:?}");
}

#[tokio::test]
async fn an_event_of_an_unknown_type_ends_an_export_before_it_or_is_left_out_and_counted() {
    let mut desk = Desk::with_events(10).await;
    desk.append(&[event(11, 10, 1, "account.exploded", json!({})), registered(12, 12, "late")]).await;
    let export = ["export", "--out", "all", "--format", "jsonl"];
    for _ in 0..2 {
        desk.run(&export).await.fails("`account.exploded`");
        assert_eq!(positions(&exported(&desk.path("all"))), (1..=10).collect::<Vec<_>>());
    }
    let skip = desk.fine(&["export", "--out", "some", "--format", "jsonl", "--unreadable", "skip"]).await;
    assert!(skip.err.contains("1 events could not be read"), "{skip:?}");
    assert_eq!(exported(&desk.path("some")).keys().last(), Some(&12));
    desk.run(&["view", "accounts"]).await.fails("event 11 cannot be read");
    // Not one of the view's aggregates.
    desk.append(&[placed(13, 1 << 70, 1, 5)]).await;
    desk.fine(&["view", "customers"]).await;
}

#[tokio::test]
async fn what_was_mistyped_is_told() {
    let desk = Desk::with_events(10).await;
    desk.run(&["export", "--out", "a", "--type", "account.register"]).await.is_misused("account.registered");
    desk.run(&["tail", "--aggregate", "acount"]).await.is_misused("there are account, order");
    desk.run(&["streams", "--stream", "elsewhere"]).await.fails("--namespace");
    assert_eq!(desk.run(&["view", "customer"]).await.code, Some(2));
    assert_eq!(desk.run(&["export"]).await.code, Some(2));
    fs::write(desk.path("notes.txt"), "").unwrap();
    desk.run(&["export", "--out", "."]).await.is_misused("is not empty and holds no export");
    desk.fine(&["export", "--out", "b"]).await;
    desk.run(&["export", "--out", "b", "--format", "csv"])
        .await
        .is_misused("format was \"parquet\" and is now \"csv\"");
    assert!(desk.fine(&["completions", "zsh"]).await.out.contains("#compdef replay"));
}

#[tokio::test]
async fn an_export_of_another_log_is_not_gone_on_with() {
    let mut desk = Desk::with_events(10).await;
    desk.fine(&["export", "--out", "all", "--format", "jsonl"]).await;
    desk.replace().await;
    desk.append_story(20).await;
    desk.run(&["export", "--out", "all", "--format", "jsonl"])
        .await
        .fails("the log is not the one that was read");
    assert_eq!(positions(&exported(&desk.path("all"))), (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_exports_do_not_write_into_one_folder() {
    let desk = Desk::with_events(10).await;
    let mut first = desk.command(&["export", "--out", "all", "--follow"]).await;
    let mut first = first.stderr(Stdio::null()).spawn().unwrap();
    crate::harness::until("the first has begun", async || desk.path("all/.lock").exists()).await;
    desk.run(&["export", "--out", "all"]).await.fails("another export writes into");
    first.kill().await.unwrap();
}

#[tokio::test]
async fn a_reader_that_has_read_enough_ends_the_program_quietly() {
    let desk = Desk::with_events(400).await;
    let mut view = desk.command(&["view", "orders", "--format", "csv"]).await;
    let mut view = view.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(view.stdout.take());
    let output = view.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

/// A disk of its own, which is full soon. Unmounted when it is dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// None where this user may not mount anything.
    fn mount(at: std::path::PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        Self::mounted(&at, "size=64k").then(|| Self(at))
    }

    fn grow(&self) {
        assert!(Self::mounted(&self.0, "remount,size=8m"));
    }

    fn mounted(at: &Path, options: &str) -> bool {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_costs_nothing_that_was_exported_and_the_same_command_goes_on() {
    let mut desk = Desk::with_events(20).await;
    let mut view = desk.command(&["view", "orders", "--format", "csv"]).await;
    view.stdout(fs::File::create("/dev/full").unwrap()).stderr(Stdio::piped());
    let full = view.spawn().unwrap().wait_with_output().await.unwrap();
    assert_eq!(full.status.code(), Some(3));
    assert!(String::from_utf8(full.stderr).unwrap().contains("No space left on device"));

    let Some(disk) = SmallDisk::mount(desk.path("small")) else { return };
    let export = ["export", "--out", "small/all", "--format", "jsonl"];
    desk.fine(&export).await;
    desk.append_story(400).await;
    desk.run(&export).await.fails("No space left on device");
    assert_eq!(positions(&exported(&desk.path("small/all"))), (1..=20).collect::<Vec<_>>());
    disk.grow();
    desk.fine(&export).await;
    assert_eq!(positions(&exported(&desk.path("small/all"))), (1..=420).collect::<Vec<_>>());
}
