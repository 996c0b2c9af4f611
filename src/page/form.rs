//! What a posted form or the query of a link says. Sans-io.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// How browsers send a form.
const KIND: &str = "application/x-www-form-urlencoded";

/// Most fields; ours have four.
const MOST: usize = 16;

/// Fields and their values, each name once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// The body of a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn posted(headers: &HeaderMap, body: &[u8]) -> Result<Self, &'static str> {
        let kind =
            headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case(KIND) {
            return Err("the body is no form");
        }
        Self::parse(body)
    }

    /// The query of a target.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn query(query: Option<&str>) -> Result<Self, &'static str> {
        Self::parse(query.unwrap_or_default().as_bytes())
    }

    fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text) {
            if fields.len() == MOST {
                return Err("the form has too many fields");
            }
            if fields.iter().any(|(known, _)| *known == name) {
                return Err("a field is there twice");
            }
            fields.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(fields))
    }

    /// A field, without the spaces around it; empty when it is not there.
    pub(super) fn get(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(known, _)| known == name);
        field.map_or("", |(_, value)| value.trim())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn posted(kind: &'static str, body: &str) -> Result<Form, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Form::posted(&headers, body.as_bytes())
    }

    #[test]
    fn a_form_is_read_as_browsers_send_it() {
        let form =
            posted("application/x-www-form-urlencoded; charset=UTF-8", "a=1+%C3%A4&b=").unwrap();
        assert_eq!([form.get("a"), form.get("b"), form.get("c")], ["1 ä", "", ""]);
    }

    #[test]
    fn what_is_no_form_of_ours_is_refused() {
        assert!(posted("text/plain", "a=1").is_err());
        assert!(posted("multipart/form-data; boundary=x", "a=1").is_err());
        assert!(posted(KIND, "a=1&a=2").is_err());
        assert!(posted(KIND, &"x=1&".repeat(3)).is_err());
        let many: String = (0..17).map(|number| format!("f{number}=1&")).collect();
        assert!(posted(KIND, &many).is_err());
    }
}
