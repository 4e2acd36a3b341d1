//! What a document says more where tokens are asked for.

use serde_json::{Value, json};

use super::problems;
use crate::{http::is_for_everybody, problem::kinds};

const SCHEME: &str = "token";

/// Every operation needs a token, but for those that are for everybody.
pub fn secure(document: &mut Value) {
    document["components"]["securitySchemes"] = json!({ SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of the issuer that is trusted here. Its scopes say what it is for: `thing:action` \
            for what belongs to its subject, `thing:action:any` for everybody's.",
    } });
    document["security"] = json!([{ SCHEME: [] }]);
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        for operation in operations.as_object_mut().into_iter().flat_map(|operations| operations.values_mut())
        {
            if is_for_everybody(path) {
                operation["security"] = json!([]);
            } else {
                let refusals = problems([kinds::UNAUTHENTICATED, kinds::FORBIDDEN]);
                let ours =
                    refusals.into_iter().filter(|(status, _)| ["401", "403"].contains(&status.as_str()));
                ours.for_each(|(status, refusal)| operation["responses"][status] = refusal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::{Document, object};

    #[test]
    fn an_operation_needs_a_token_unless_it_is_for_everybody() {
        let paths = object(json!({ "/accounts": { "get": { "responses": {} } } }));
        let document = |is_secured| {
            let (paths, schemas) = (paths.clone(), Default::default());
            Document { title: "", description: "", tags: vec![], paths, schemas, is_secured }.build()
        };
        let secured = document(true);
        assert_eq!(secured["security"], json!([{ SCHEME: [] }]));
        let accounts = &secured["paths"]["/accounts"]["get"];
        assert!(accounts["security"].is_null() && accounts["responses"]["401"].is_object());
        assert_eq!(secured["paths"]["/health/ready"]["get"]["security"], json!([]));
        assert!(document(false)["security"].is_null());
    }
}
