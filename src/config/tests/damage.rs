//! Damaged files.

use proptest::prelude::*;

use super::*;

#[test]
fn very_deep_names_do_no_harm() {
    let dots = vec!["a"; 20_000].join(".");
    let brackets = "[".repeat(20_000);
    for file in [
        format!("[kafka.properties]\n{dots} = 1"),
        format!("outbox = {brackets}"),
        format!("[{dots}]"),
    ] {
        // whether it is taken or refused does not matter here: it must come back
        drop(load(&file, ENOUGH));
    }
}

/// One slip of the hand: `None` takes a character away, `Some` adds one.
type Slip = (prop::sample::Index, Option<char>);

fn slips() -> impl Strategy<Value = Vec<Slip>> {
    let added = prop::option::of(prop::sample::select(vec![
        '\n', '"', '\'', '=', '[', ']', '{', '}', '#', '.', 'a', ' ', '\\',
    ]));
    prop::collection::vec((any::<prop::sample::Index>(), added), 1..6)
}

proptest! {
    #[test]
    fn a_damaged_file_neither_panics_nor_tells_its_secrets(slips in slips()) {
        let mut text: Vec<char> = WHOLE.chars().collect();
        for (at, added) in slips {
            let at = at.index(text.len());
            match added {
                Some(added) => text.insert(at, added),
                None => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        match load(&text, ENOUGH) {
            Ok(settings) => prop_assert!(!format!("{settings:?}").contains("HUNTER2"), "{:?}", settings),
            Err(shown) => prop_assert!(!shown.concat().contains("HUNTER2"), "{:#?}", shown),
        }
    }

    #[test]
    fn any_text_is_a_configuration_or_faults_with_lines_that_exist(text in "([a-z.\\[\\]{}=\"'\n# 0-9é]{0,60}|(?s).{0,60})") {
        if let Err(shown) = load(&text, ENOUGH) {
            let last = 1 + text.matches('\n').count();
            for error in shown {
                let line = error.strip_prefix("doorbell.toml:").and_then(|rest| rest.split_once(": "));
                let (line, _) = line.expect("each error of a file has its place");
                prop_assert!((1..=last).contains(&line.parse::<usize>().expect("a number")), "{}", error);
            }
        }
    }
}
