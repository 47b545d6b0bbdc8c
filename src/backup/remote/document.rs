//! The XML documents that a storage answers with: each is whole, or it is not read.

use anyhow::{Result, bail, ensure};
use xmlparser::{ElementEnd, Token, Tokenizer};

/// The namespace of answers.
pub(super) const NS: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// So deep no answer is.
const MOST_DEEP: usize = 32;

/// Reads an answer, whatever namespace the storage gives it: storages differ in that. One that ends before its
/// root element does is refused: to a parser the rest of a list is an empty list.
pub(super) fn read<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, instant_xml::Error>) -> Result<T> {
    Ok(parse(&whole(text)?)?)
}

/// A document with its elements alone, all of them in the one namespace, if it is whole.
fn whole(text: &str) -> Result<String> {
    let mut whole = String::with_capacity(text.len() + NS.len());
    let mut open: Vec<&str> = Vec::new();
    let mut name = "";
    let mut closed = false;
    // White space may come before it while the storage is at work.
    for token in Tokenizer::from(text.trim_start_matches('\u{feff}').trim()) {
        match token? {
            Token::ElementStart { local, .. } => {
                name = local.as_str();
                whole.push('<');
                whole.push_str(name);
                if open.is_empty() {
                    whole.push_str(" xmlns=\"");
                    whole.push_str(NS);
                    whole.push('"');
                }
            }
            Token::ElementEnd { end: ElementEnd::Open, .. } => {
                open.push(name);
                whole.push('>');
                ensure!(open.len() <= MOST_DEEP, "it is too deep");
            }
            Token::ElementEnd { end: ElementEnd::Empty, .. } => {
                whole.push_str("/>");
                closed = open.is_empty();
            }
            Token::ElementEnd { end: ElementEnd::Close(_, local), .. } => {
                ensure!(open.pop() == Some(local.as_str()), "</{local}> ends nothing");
                whole.push_str("</");
                whole.push_str(local.as_str());
                whole.push('>');
                closed = open.is_empty();
            }
            Token::Text { text } => whole.push_str(text.as_str()),
            Token::Cdata { span, .. } => whole.push_str(span.as_str()),
            Token::Attribute { .. }
            | Token::Declaration { .. }
            | Token::ProcessingInstruction { .. }
            | Token::Comment { .. } => {}
            Token::DtdStart { .. }
            | Token::EmptyDtd { .. }
            | Token::EntityDeclaration { .. }
            | Token::DtdEnd { .. } => bail!("it is no answer of S3"),
        }
    }
    ensure!(closed, "it is cut off");
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusty_s3::actions::ListObjectsV2;

    fn keys(text: &str) -> Result<Vec<String>> {
        let page = read(text, ListObjectsV2::parse_response)?;
        Ok(page.contents.into_iter().map(|object| object.key).collect())
    }

    const LIST: &str = "<Contents><Key>bot/a&amp;b</Key><Size>9</Size><Owner><ID>7</ID></Owner></Contents>";

    fn list(root: &str) -> String {
        let name = root.split(' ').next().unwrap();
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}>{LIST}</{name}>\n")
    }

    #[test]
    fn an_answer_is_read_whatever_its_namespace_is() {
        for root in [
            "ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"",
            "ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'",
            "ListBucketResult xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"",
            "ListBucketResult",
            "s3:ListBucketResult xmlns:s3=\"http://s3.amazonaws.com/doc/2006-03-01/\"",
        ] {
            assert_eq!(keys(&list(root)).unwrap(), ["bot/a&b"], "{root}");
        }
        assert_eq!(keys("<ListBucketResult/>").unwrap(), [""; 0], "an empty bucket");
        for other in
            ["<Error><Code>SlowDown</Code></Error>", "", "<html></html>", "<!DOCTYPE a><ListBucketResult/>"]
        {
            assert!(keys(other).is_err(), "{other}");
        }
        assert!(keys(&"<a>".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn an_answer_that_is_cut_off_anywhere_is_not_read(share in 0.0..1.0f64) {
            let text = list("ListBucketResult");
            let whole = text.trim_end().len();
            let cut = (whole as f64 * share) as usize;
            prop_assert!(keys(&text[..cut]).is_err(), "{}", &text[..cut]);
        }
    }
}
