//! `list`: interviews with where they stand, oldest first.

use super::args::{Global, List};
use super::connection::{Connection, parsed};
use super::exit::Failure;
use super::output;
use super::text::{one_line, pad, pad_left};
use crate::socket::call::ListParams;
use crate::socket::view::ListView;

pub fn run(global: &Global, args: &List) -> Result<(), Failure> {
    let params = ListParams {
        state: args.state,
        limit: usize::try_from(args.limit).ok(),
        after: args.after.clone(),
    };
    let raw = Connection::open(global)?.raw("interview.list", params)?;
    if args.json {
        return output::json(&raw);
    }
    output::line(&render(&parsed(&raw)?, args).join("\n"))
}

fn render(list: &ListView, args: &List) -> Vec<String> {
    if list.interviews.is_empty() {
        return vec!["no interviews".to_owned()];
    }
    let widest = list.interviews.iter().map(|row| row.interview_id.as_str().len()).max();
    let columns = widest.unwrap_or(0).max("interview".len());
    let row = |id: &str, state: &str, done: &str, submitted: &str| {
        format!(
            "{}  {}  {}  {submitted}",
            pad(id, columns),
            pad(state, 9),
            pad_left(done, 7)
        )
    };
    let mut lines = vec![row("interview", "state", "answers", "submitted")];
    for interview in &list.interviews {
        lines.push(row(
            interview.interview_id.as_str(),
            interview.state.as_str(),
            &format!("{}/{}", interview.done, interview.total),
            &interview.submitted_at.to_string(),
        ));
    }
    if let Some(next) = &list.next {
        let state = args
            .state
            .map(|state| format!(" --state {}", state.as_str()))
            .unwrap_or_default();
        lines.push(String::new());
        lines.push(format!(
            "These are the oldest {}; newer ones: interviewd list{state} --limit {} --after {}",
            list.interviews.len(),
            args.limit,
            one_line(next)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table_that_says_how_to_go_on() {
        let list: ListView = serde_json::from_str(
            r#"{"interviews":[{"interview_id":"iv-001","state":"scoring","done":3,"total":17,"submitted_at":"2026-01-31T09:00:00.000Z"},
                {"interview_id":"a-longer-id","state":"complete","done":5,"total":5,"submitted_at":"2026-01-31T09:01:00.000Z"}],"next":"t5"}"#,
        )
        .unwrap();
        let args = List {
            state: Some(crate::domain::state::InterviewState::Scoring),
            limit: 2,
            after: None,
            json: false,
        };
        assert_eq!(
            render(&list, &args),
            [
                "interview    state      answers  submitted",
                "iv-001       scoring       3/17  2026-01-31T09:00:00.000Z",
                "a-longer-id  complete       5/5  2026-01-31T09:01:00.000Z",
                "",
                "These are the oldest 2; newer ones: interviewd list --state scoring --limit 2 --after t5",
            ]
        );
        let none = ListView {
            interviews: Vec::new(),
            next: None,
        };
        assert_eq!(render(&none, &args), ["no interviews"]);
    }
}
