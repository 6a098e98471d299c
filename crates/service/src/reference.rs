//! `/docs`: the OpenAPI document as a page to read. It is made once, on the server, and needs no script.

use std::fmt::Write;
use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::openapi::OpenApi as Description;

use crate::guard::CONTENT_POLICY;
use crate::openapi::Served;

/// Answers with the page.
pub(crate) async fn serve(document: Arc<Served>) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    ];
    (headers, document.html.clone()).into_response()
}

/// The page of a document.
pub(crate) fn render(description: &Description) -> String {
    let document = serde_json::to_value(description).unwrap_or_default();
    let mut page = Page { html: String::new() };
    page.document(&document);
    page.html
}

struct Page {
    html: String,
}

const METHODS: [&str; 6] = ["get", "post", "put", "delete", "patch", "head"];

impl Page {
    fn put(&mut self, text: &str) {
        self.html.push_str(text);
    }

    /// Puts text that is not HTML.
    fn text(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '<' => self.html.push_str("&lt;"),
                '>' => self.html.push_str("&gt;"),
                '&' => self.html.push_str("&amp;"),
                '"' => self.html.push_str("&quot;"),
                other => self.html.push(other),
            }
        }
    }

    fn element(&mut self, name: &str, text: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.html, "<{name}>");
        self.prose(text);
        let _ = write!(self.html, "</{name}>");
    }

    /// Text in which code stands between backquotes.
    fn prose(&mut self, text: &str) {
        for (index, part) in text.split('`').enumerate() {
            let is_code = index % 2 == 1;
            self.put(if is_code { "<code>" } else { "" });
            self.text(part);
            self.put(if is_code { "</code>" } else { "" });
        }
    }

    fn document(&mut self, document: &Value) {
        let info = &document["info"];
        self.put("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
        self.put("<title>Transload: reference of the API</title><link rel=\"stylesheet\" href=\"/assets/reference.css\"></head><body><main>");
        self.element("h1", &format!("{} {}", string(&info["title"]), string(&info["version"])));
        self.element("p", string(&info["description"]));
        self.put("<p>The same as an OpenAPI 3.1 document: <a href=\"/openapi.json\">/openapi.json</a>. The page: <a href=\"/\">/</a>.</p>");
        let operations = operations(document);
        self.contents(document, &operations);
        for tag in list(&document["tags"]) {
            let name = string(&tag["name"]);
            let _ = write!(self.html, "<section id=\"tag-{name}\">");
            self.element("h2", name);
            self.element("p", string(&tag["description"]));
            for operation in operations.iter().filter(|operation| operation.tag == name) {
                self.operation(operation);
            }
            self.put("</section>");
        }
        self.put("<section id=\"documents\"><h2>Documents</h2>");
        for (name, schema) in object(&document["components"]["schemas"]) {
            let _ = write!(self.html, "<article id=\"schema-{name}\">");
            self.element("h3", name);
            self.element("p", string(&schema["description"]));
            self.fields(schema);
            self.put("</article>");
        }
        self.put("</section></main></body></html>\n");
    }

    fn contents(&mut self, document: &Value, operations: &[Operation<'_>]) {
        self.put("<nav aria-label=\"Routes\">");
        for tag in list(&document["tags"]) {
            let name = string(&tag["name"]);
            self.element("h2", name);
            self.put("<ul>");
            for operation in operations.iter().filter(|operation| operation.tag == name) {
                let _ = write!(
                    self.html,
                    "<li><a href=\"#{}\"><b>{}</b> ",
                    operation.anchor(),
                    operation.method.to_uppercase()
                );
                self.text(operation.path);
                self.put("</a></li>");
            }
            self.put("</ul>");
        }
        self.put("</nav>");
    }

    fn operation(&mut self, operation: &Operation<'_>) {
        let body = operation.body;
        let _ = write!(
            self.html,
            "<article id=\"{}\"><h3><b>{}</b> <code>",
            operation.anchor(),
            operation.method.to_uppercase()
        );
        self.text(operation.path);
        self.put("</code></h3>");
        self.element("p", string(&body["summary"]));
        self.element("p", string(&body["description"]));
        let parameters = list(&body["parameters"]);
        if !parameters.is_empty() {
            self.put("<table><caption>Parameters</caption><thead><tr><th>name</th><th>in</th><th>type</th><th>meaning</th></tr></thead><tbody>");
            for parameter in parameters {
                self.put("<tr><td><code>");
                self.text(string(&parameter["name"]));
                self.put("</code>");
                self.put(if parameter["required"] == Value::Bool(true) { " *" } else { "" });
                self.put("</td>");
                self.element("td", string(&parameter["in"]));
                self.put("<td>");
                self.kind(&parameter["schema"]);
                self.put("</td>");
                self.element("td", string(&parameter["description"]));
                self.put("</tr>");
            }
            self.put("</tbody></table>");
        }
        self.contents_of("Body", &body["requestBody"]["content"]);
        self.put("<table><caption>Answers</caption><thead><tr><th>status</th><th>meaning</th><th>document</th></tr></thead><tbody>");
        for (status, answer) in object(&body["responses"]) {
            self.put("<tr>");
            self.element("td", status);
            self.element("td", string(&answer["description"]));
            self.put("<td>");
            for (kind, content) in object(&answer["content"]) {
                self.kind(&content["schema"]);
                self.put(" <small>");
                self.text(kind);
                self.put("</small>");
            }
            self.put("</td></tr>");
        }
        self.put("</tbody></table></article>");
    }

    fn contents_of(&mut self, caption: &str, content: &Value) {
        for (kind, content) in object(content) {
            self.put("<p>");
            self.text(caption);
            self.put(": ");
            self.kind(&content["schema"]);
            self.put(" <small>");
            self.text(kind);
            self.put("</small></p>");
        }
    }

    fn fields(&mut self, schema: &Value) {
        let required: Vec<_> = list(&schema["required"]).iter().map(string).collect();
        let fields = object(&schema["properties"]);
        if fields.is_empty() {
            self.put("<p>");
            self.kind(schema);
            self.put("</p>");
            return;
        }
        self.put("<table><thead><tr><th>field</th><th>type</th><th>meaning</th></tr></thead><tbody>");
        for (name, field) in fields {
            self.put("<tr><td><code>");
            self.text(name);
            self.put("</code>");
            self.put(if required.contains(&name.as_str()) { " *" } else { "" });
            self.put("</td><td>");
            self.kind(field);
            self.put("</td>");
            self.element("td", string(&field["description"]));
            self.put("</tr>");
        }
        self.put("</tbody></table>");
    }

    /// The type that a schema stands for, with a link where it has a name.
    fn kind(&mut self, schema: &Value) {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            let _ = write!(self.html, "<a href=\"#schema-{name}\">{name}</a>");
            return;
        }
        for combined in ["oneOf", "anyOf", "allOf"] {
            for (index, part) in list(&schema[combined]).iter().filter(|part| part["type"] != "null").enumerate() {
                self.put(if index > 0 { " or " } else { "" });
                self.kind(part);
            }
        }
        let words: Vec<_> = list(&schema["enum"]).iter().map(string).collect();
        if !words.is_empty() {
            self.text(&words.join(" | "));
            return;
        }
        match &schema["type"] {
            Value::String(kind) if kind == "array" => {
                self.put("list of ");
                self.kind(&schema["items"]);
            }
            Value::String(kind) => self.text(kind),
            Value::Array(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(string).filter(|kind| *kind != "null").collect();
                self.text(&kinds.join(" or "));
            }
            _ => {}
        }
    }
}

/// A route with its method.
struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    tag: &'a str,
    body: &'a Value,
}

impl Operation<'_> {
    fn anchor(&self) -> String {
        let path: String =
            self.path.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        format!("{}{path}", self.method)
    }
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut found = Vec::new();
    for (path, methods) in object(&document["paths"]) {
        for method in METHODS {
            let body = &methods[method];
            if body.is_object() {
                found.push(Operation { path, method, tag: list(&body["tags"]).first().map_or("", string), body });
            }
        }
    }
    found
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn object(value: &Value) -> Vec<(&String, &Value)> {
    value.as_object().map(|map| map.iter().collect()).unwrap_or_default()
}
