//! The configuration's text with its placeholders filled.

/// What stands in for each `${NAME}`.
pub type Values<'a> = [(&'a str, String)];

/// A block from `#each <name>` to `#end`, and the values of each time that it is there.
pub struct Block<'a> {
    pub name: &'a str,
    pub each: Vec<Vec<(&'a str, String)>>,
}

/// Fills a text in which a block from `#each <name>` to `#end`, each alone on its line, is there once for each of
/// the name's values, and everything else once.
pub fn fill(text: &str, blocks: &[Block], values: &Values) -> String {
    let mut filled = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.trim().strip_prefix("#each ") else {
            filled += &with_values(line, values);
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "#end").collect();
        let repeated = blocks.iter().find(|block| block.name == name).map_or(&[][..], |block| &block.each);
        for own in repeated {
            filled.extend(block.iter().map(|line| with_values(with_values(line, own).trim_end(), values)));
        }
    }
    filled
}

fn with_values(line: &str, values: &Values) -> String {
    let filled = values
        .iter()
        .fold(line.to_owned(), |line, (name, value)| line.replace(&format!("${{{name}}}"), value));
    filled + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_there_once_for_each_value_or_not_at_all() {
        let text =
            "in ${HERE}\n  #each region\n  - ${REGION} of ${HERE}\n  #end\n#each tls\nsecret\n#end\nend\n";
        let region = |name: &str| vec![("REGION", name.to_owned())];
        let regions = Block { name: "region", each: vec![region("eu"), region("us")] };
        let tls = Block { name: "tls", each: vec![] };
        let filled = fill(text, &[regions, tls], &[("HERE", "eu".to_owned())]);
        assert_eq!(filled, "in eu\n  - eu of eu\n  - us of eu\nend\n");
    }
}
