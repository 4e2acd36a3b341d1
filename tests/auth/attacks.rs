//! Tokens that nobody should take, each tried at a real service.

use reqwest::StatusCode;
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Call, Place, Servers, Service, until},
    issuer::{Issuer, Key, claims, key_set, now, signed},
};

/// A query-service that asks for tokens. Its catalog is for everybody who has one.
struct Gate {
    queries: Service,
    issuer: Issuer,
    other: Key,
    _place: Place,
}

impl Gate {
    async fn new() -> Self {
        let (issuer, other) = (Issuer::new(), Key::p256("second"));
        issuer.publish(key_set([&issuer.key, &other]));
        let place = Place::new(Servers::shared().await).await.told(issuer.flags());
        let queries = place.query_service().await;
        let gate = Self { queries, issuer, other, _place: place };
        until("the catalog is there", async || {
            gate.get("/health/ready").send().await.status == StatusCode::OK
        })
        .await;
        gate
    }

    fn get(&self, path: &str) -> Call {
        Call::new(reqwest::Client::new().get(format!("{}{path}", self.queries.url)))
    }

    async fn answer(&self, token: &str) -> Answer {
        self.get("/").token(token).send().await
    }

    fn without(&self, claim: &str) -> String {
        let mut claims = claims("ada", "");
        claims.as_object_mut().unwrap().remove(claim);
        self.issuer.key.token(&claims)
    }

    fn with(&self, changed: Value) -> String {
        let mut claims = claims("ada", "");
        claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        self.issuer.key.token(&claims)
    }

    fn with_header(&self, changed: Value) -> String {
        let mut header = self.issuer.key.header();
        header.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        self.issuer.key.sign(&header, &claims("ada", ""))
    }

    /// HS256 takes any bytes for its secret, such as a key that everybody knows.
    fn hmac(&self, key: &Key, secret: &[u8]) -> String {
        let header = json!({"alg": "HS256", "typ": "JWT", "kid": key.kid});
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        signed(&header, &claims("ada", ""), |message| hmac::sign(&secret, message).as_ref().to_owned())
    }
}

#[tokio::test]
async fn tokens_that_are_not_right_are_refused() {
    let gate = Gate::new().await;
    let Gate { issuer: Issuer { key, .. }, other, .. } = &gate;
    let (good, stranger) = (key.token(&claims("ada", "")), Key::ed25519(&key.kid));
    let tampered = |part: usize, text: &str| {
        let mut parts: Vec<&str> = good.split('.').collect();
        parts[part] = text;
        parts.join(".")
    };
    let mut none = key.header();
    none["alg"] = json!("none");
    let attacks = [
        ("without a signature", signed(&none, &claims("ada", ""), |_| vec![]), "Token"),
        ("`none` with another's signature", key.sign(&none, &claims("ada", "")), "Token"),
        ("HS256 with the public key", gate.hmac(key, &key.public()), "signed in another way"),
        ("HS256 with the key set", gate.hmac(key, key_set([key, other]).as_bytes()), "signed in another way"),
        ("HS256 with a point", gate.hmac(other, &other.public()), "signed in another way"),
        ("of another key's algorithm", gate.with_header(json!({"alg": "ES256"})), "signed in another way"),
        ("RS256 under an Ed25519 key", gate.with_header(json!({"alg": "RS256"})), "signed in another way"),
        ("in another key's name", gate.with_header(json!({"kid": other.kid})), "signed in another way"),
        ("of a key that calls itself ours", stranger.token(&claims("ada", "")), "signature"),
        ("of an unknown key", gate.with_header(json!({"kid": "third"})), "not known"),
        ("of a key by no name", gate.with_header(json!({"kid": null})), "kid"),
        ("with extensions", gate.with_header(json!({"crit": ["exp"]})), "crit"),
        ("with an extension", gate.with_header(json!({"crit": ["b64"], "b64": true})), "crit"),
        ("that brings its key", stranger.sign(&brought(&stranger, key), &claims("ada", "")), "signature"),
        ("with other claims", tampered(1, "eyJzdWIiOiJldmUifQ"), "signature"),
        ("with another signature", tampered(2, "AAAA"), "signature"),
        ("with no signature", tampered(2, ""), "signature"),
        ("that expired", gate.with(json!({"exp": now() - 1})), "expired"),
        ("that never expires", gate.without("exp"), "`exp`"),
        ("that expires some day", gate.with(json!({"exp": "tomorrow"})), "Token"),
        ("of the future", gate.with(json!({"nbf": now() + 30})), "nbf"),
        ("of some future", gate.with(json!({"nbf": "tomorrow"})), "Token"),
        ("of another issuer", gate.with(json!({"iss": "https://issuer.example.evil"})), "iss"),
        ("of no issuer", gate.without("iss"), "`iss`"),
        ("of several issuers", gate.with(json!({"iss": ["https://issuer.example", "eve"]})), "Token"),
        ("for others", gate.with(json!({"aud": "headwater-2"})), "aud"),
        ("for several others", gate.with(json!({"aud": ["a", "b"]})), "aud"),
        ("for nobody", gate.without("aud"), "`aud`"),
        ("of nobody", gate.without("sub"), "`sub`"),
        ("of an empty name", gate.with(json!({"sub": ""})), "`sub`"),
        ("of a name with a line break", gate.with(json!({"sub": "ada\neve"})), "`sub`"),
        ("of a long name", gate.with(json!({"sub": "a".repeat(256)})), "`sub`"),
        ("that is no token", "ada".to_owned(), "Token"),
        ("that is too long", format!("{good}{}", "A".repeat(8 * 1024)), "bytes"),
    ];
    assert_eq!(gate.answer(&good).await.status, StatusCode::OK);
    assert_eq!(gate.answer(&other.token(&claims("ada", ""))).await.status, StatusCode::OK);
    assert_eq!(gate.answer(&gate.with(json!({"aud": ["a", "headwater"]}))).await.status, StatusCode::OK);
    let mut wrong = Vec::new();
    for (what, token, reason) in attacks {
        let answer = gate.answer(&token).await;
        let detail = answer.body["detail"].as_str().unwrap_or("no problem").to_lowercase();
        if answer.status != StatusCode::UNAUTHORIZED || !detail.contains(&reason.to_lowercase()) {
            wrong.push(format!("a token {what}: {}, {detail}", answer.status));
            continue;
        }
        assert_eq!(answer.problem(), (401, "unauthenticated"), "a token {what}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer ") && challenge.contains("invalid_token"), "{challenge}");
    }
    assert_eq!(wrong, [""; 0], "tokens were taken, or refused for another reason");
}

/// A header that names our key and brings another (`jwk`), and says where to find it (`jku`).
fn brought(stranger: &Key, ours: &Key) -> Value {
    json!({"alg": "EdDSA", "kid": ours.kid, "jwk": stranger.jwk(), "jku": "http://127.0.0.1:1/keys"})
}

#[tokio::test]
async fn a_token_comes_in_one_header() {
    let gate = Gate::new().await;
    let good = gate.issuer.token("ada", "");
    let twice = gate.get("/").token(&good).token(&good).send().await;
    assert_eq!(twice.problem(), (401, "unauthenticated"));
    for header in
        [format!("Basic {good}"), good.clone(), format!("Bearer {good}, Bearer {good}"), "Bearer ".into()]
    {
        let answer = gate.get("/").header("Authorization", &header).send().await;
        assert_eq!(answer.problem(), (401, "unauthenticated"), "{header}");
    }
    let elsewhere = gate.get(&format!("/?access_token={good}")).send().await;
    assert_eq!(elsewhere.problem(), (401, "unauthenticated"));
    assert_eq!(elsewhere.header("www-authenticate"), "Bearer realm=\"headwater\"");
}

#[tokio::test]
async fn what_is_for_everybody_tells_nothing_of_the_data() {
    let gate = Gate::new().await;
    for path in
        ["/health/live", "/health/ready", "/problems/forbidden", "/docs/", "/openapi.json", "/metrics"]
    {
        assert_eq!(gate.get(path).send().await.status, StatusCode::OK, "{path}");
    }
    for path in [
        "/",
        "/accounts",
        "/accounts/7",
        "/nothing/is/here",
        "/docsx",
        "/health",
        "//accounts",
        "/docs/../accounts",
    ] {
        assert_eq!(gate.get(path).send().await.problem(), (401, "unauthenticated"), "{path}");
    }
    let document = gate.get("/openapi.json").send().await.body;
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    assert!(document["paths"]["/accounts"]["get"]["responses"]["401"].is_object());
}

#[tokio::test]
async fn a_token_that_was_taken_before_is_refused_once_it_has_expired() {
    let gate = Gate::new().await;
    let short = gate.with(json!({"exp": now() + 2}));
    assert_eq!(gate.answer(&short).await.status, StatusCode::OK);
    until("the token has expired", async || gate.answer(&short).await.status == StatusCode::UNAUTHORIZED)
        .await;
    assert!(gate.answer(&short).await.text.contains("expired"));
}
