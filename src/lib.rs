//! interviewd turns AI mock interviews into scored, evidence-backed reports.
//!
//! Rooms: `domain` is what an interview is and how its numbers are computed; it is pure and knows no other room.
//! `scoring` turns answers into prompts; it knows `domain`. Begin reading at [`domain::interview`].

pub mod domain;
pub mod scoring;
