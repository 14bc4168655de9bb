//! The XML that EC2 and S3 answer with, as far as it is read: elements by their names, lists of `item`.

use roxmltree::{Document, Node};

use super::Error;

/// AWS's word and sentence in an answer that is an error.
pub(super) fn error(text: &str) -> Option<(String, String)> {
    let document = Document::parse(text).ok()?;
    let error = document.descendants().find(|node| node.has_tag_name_of("Error"))?;
    Some((text_of(error, "Code")?, text_of(error, "Message").unwrap_or_default()))
}

/// Reads an answer and hands its root on.
pub(super) fn read<T>(
    place: &str,
    body: &[u8],
    take: impl FnOnce(Node<'_, '_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let strange = |text: String| Error::Answer { place: place.to_owned(), text };
    let text = std::str::from_utf8(body).map_err(|error| strange(error.to_string()))?;
    let document = Document::parse(text).map_err(|error| strange(error.to_string()))?;
    take(document.root_element())
}

/// The child of this name.
pub(super) fn child<'a, 'd>(node: Node<'a, 'd>, name: &str) -> Option<Node<'a, 'd>> {
    node.children().find(|child| child.has_tag_name_of(name))
}

/// The text of the child of this name, where it is not empty.
pub(super) fn text_of(node: Node<'_, '_>, name: &str) -> Option<String> {
    child(node, name)?.text().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The items of the list of this name.
pub(super) fn items<'a, 'd>(node: Node<'a, 'd>, list: &str) -> Vec<Node<'a, 'd>> {
    let list = child(node, list);
    list.into_iter().flat_map(|list| list.children()).filter(|item| item.has_tag_name_of("item")).collect()
}

/// Names are compared without their namespace, which is another for each version of an API.
trait Named {
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl Named for Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}
