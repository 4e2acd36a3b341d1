//! The services' users of Postgres, each a member of the role that `migrations/` gives its rights.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use reqwest::Url;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::random_password;
use crate::services::{PROJECTOR, QUERY_SERVICE};

/// Each user, and its role.
const USERS: [(&str, &str); 3] = [
    (PROJECTOR, "headwater_projector"),
    (QUERY_SERVICE, "headwater_query_service"),
    ("replay", "headwater_replay"),
];

/// The users' passwords, which are others with every start: whoever needs one is told it.
#[derive(Clone)]
pub struct Users(BTreeMap<&'static str, String>);

impl Users {
    /// Makes those that are missing, and gives each a password.
    pub async fn make(superuser_url: &str) -> Result<Self> {
        Self::with_passwords(superuser_url).await.context("cannot make the users of Postgres")
    }

    async fn with_passwords(superuser_url: &str) -> Result<Self> {
        let mut database = PgConnection::connect(superuser_url).await?;
        let mut passwords = BTreeMap::new();
        for (user, role) in USERS {
            for (name, can) in [(role, "nologin".to_owned()), (user, format!("login in role \"{role}\""))] {
                let is_there =
                    sqlx::query_scalar("select to_regrole(quote_ident($1)) is not null").bind(name);
                if !is_there.fetch_one(&mut database).await? {
                    let create = AssertSqlSafe(format!("create role \"{name}\" {can}"));
                    sqlx::query(create).execute(&mut database).await?;
                }
            }
            let password = random_password()?;
            // Safe: it is of letters and digits.
            let alter = AssertSqlSafe(format!("alter role \"{user}\" password '{password}'"));
            sqlx::query(alter).execute(&mut database).await?;
            passwords.insert(user, password);
        }
        database.close().await?;
        Ok(Self(passwords))
    }

    /// The same URL as another user; as who it was for, if there is no such user.
    pub fn instead(&self, url: &str, user: &str) -> String {
        let (Some(password), Ok(mut url)) = (self.0.get(user), Url::parse(url)) else {
            return url.to_owned();
        };
        let _ = url.set_username(user).and_then(|()| url.set_password(Some(password)));
        url.into()
    }
}
