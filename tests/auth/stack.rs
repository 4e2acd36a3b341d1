//! `stack --auth`, as the README starts it.

use std::os::unix::fs::PermissionsExt;

use reqwest::StatusCode;
use serde_json::json;
use stack::servers::temporary_folder;
use uuid::Uuid;

use crate::{
    harness::{Call, until},
    stack_process::Stack,
};

#[tokio::test]
async fn a_stack_with_auth_takes_its_own_tokens_alone() {
    let stack = Stack::start_with(temporary_folder().unwrap(), &["--auth"]).await;
    assert!(stack.output().contains("Authorization: Bearer $TOKEN"), "{}", stack.output());
    let ada = Uuid::now_v7();
    let (command, query) = (stack.url("command"), stack.url("query"));
    let register = || {
        let request = reqwest::Client::new().post(format!("{command}/accounts/{ada}/register"));
        Call::new(request).json(&json!({"email": "ada@example.org", "username": "ada"}))
    };
    assert_eq!(register().send().await.problem(), (401, "unauthenticated"));
    let sub = ada.to_string();
    let scopes = ["--sub", &sub, "--scope", "account:register", "--scope", "accounts:read:any"];
    let token = stack.ask("token", &scopes).await.unwrap();
    let registered = register().token(token.trim()).send().await;
    assert_eq!(registered.status, StatusCode::CREATED, "{registered:?}");
    let read = Call::new(reqwest::Client::new().get(format!("{query}/accounts/{ada}?fields=username")));
    let read =
        read.header("Min-Position", registered.header("log-position")).token(token.trim()).send().await;
    assert_eq!(read.body, json!({"username": "ada"}));

    // The task-worker reads the address with a token of its own.
    let mail = stack.folder().join("mail");
    until("the welcome email is there", async || {
        std::fs::read_dir(&mail).is_ok_and(|mut folder| folder.next().is_some())
    })
    .await;
    let secrets = ["auth/key.pkcs8", "auth/task-worker.token"].map(|name| stack.folder().join(name));
    for secret in secrets {
        let mode = std::fs::metadata(&secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", secret.display());
    }

    // Its key stays, but without --auth there are no tokens to make.
    let folder = stack.stop().await;
    let stack = Stack::start(folder).await;
    let refused = stack.ask("token", &scopes).await.unwrap_err();
    assert!(refused.contains("--auth"), "{refused}");
    stack.stop().await;
}
