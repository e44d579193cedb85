//! Ways to state a fact and to ask for it.
//!
//! Figures and codes are stated as a text would. Names carry a word like *note* or
//! *remember*: without one nothing tells them from what a novel says of its people.

use crate::values::ValueKind;
use crate::values::ValueKind::{Code, Date, Digits, Name, Time};

/// A statement with places for key `{k}` and value `{v}`, and the question up to the answer.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// What the value looks like.
    pub kind: ValueKind,
    /// The sentence.
    pub statement: &'static str,
    /// The question.
    pub question: &'static str,
}

const fn template(kind: ValueKind, statement: &'static str, question: &'static str) -> Template {
    Template {
        kind,
        statement,
        question,
    }
}

/// What training shows.
pub const SEEN: &[Template] = &[
    template(
        Digits,
        "The access code of {k} is {v}.",
        "What is the access code of {k}? The access code of {k} is",
    ),
    template(
        Digits,
        "The password for {k} was set to {v}.",
        "What is the password for {k}? The password for {k} was set to",
    ),
    template(
        Digits,
        "Please note that the badge number of {k} is {v}.",
        "Which badge number does {k} have? The badge number of {k} is",
    ),
    template(
        Digits,
        "The phone extension of {k} is {v}.",
        "What is the phone extension of {k}? The phone extension of {k} is",
    ),
    template(
        Digits,
        "For {k} the account number is {v}.",
        "What is the account number for {k}? For {k} the account number is",
    ),
    template(
        Digits,
        "The invoice from {k} came to {v} crowns.",
        "How much was the invoice from {k}? The invoice from {k} came to",
    ),
    template(
        Digits,
        "Remember: the locker of {k} opens with {v}.",
        "What opens the locker of {k}? The locker of {k} opens with",
    ),
    template(
        Digits,
        "The serial number on {k} reads {v}.",
        "What does the serial number on {k} read? The serial number on {k} reads",
    ),
    template(
        Digits,
        "The population of {k} was counted as {v}.",
        "What was the population of {k}? The population of {k} was counted as",
    ),
    template(
        Digits,
        "The PIN of {k} equals {v}.",
        "What is the PIN of {k}? The PIN of {k} equals",
    ),
    template(
        Code,
        "The licence plate of {k} is {v}.",
        "What is the licence plate of {k}? The licence plate of {k} is",
    ),
    template(
        Code,
        "Flight {k} leaves from gate {v}.",
        "From which gate does flight {k} leave? Flight {k} leaves from gate",
    ),
    template(
        Code,
        "The shelf mark of {k} is {v}.",
        "What is the shelf mark of {k}? The shelf mark of {k} is",
    ),
    template(
        Code,
        "The order of {k} has the reference {v}.",
        "Which reference has the order of {k}? The order of {k} has the reference",
    ),
    template(
        Code,
        "Note: the room of {k} is {v}.",
        "Which room is that of {k}? The room of {k} is",
    ),
    template(
        Code,
        "The part number for {k} is {v}.",
        "What is the part number for {k}? The part number for {k} is",
    ),
    template(
        Date,
        "The contract with {k} ends on {v}.",
        "When does the contract with {k} end? The contract with {k} ends on",
    ),
    template(
        Date,
        "The founding date of {k} is {v}.",
        "What is the founding date of {k}? The founding date of {k} is",
    ),
    template(
        Date,
        "The passport of {k} expires on {v}.",
        "When does the passport of {k} expire? The passport of {k} expires on",
    ),
    template(
        Date,
        "The inspection of {k} is due on {v}.",
        "When is the inspection of {k} due? The inspection of {k} is due on",
    ),
    template(
        Time,
        "The train to {k} departs at {v}.",
        "When does the train to {k} depart? The train to {k} departs at",
    ),
    template(
        Time,
        "The meeting about {k} starts at {v}.",
        "When does the meeting about {k} start? The meeting about {k} starts at",
    ),
    template(
        Time,
        "The alarm for {k} is set for {v}.",
        "For when is the alarm for {k} set? The alarm for {k} is set for",
    ),
    template(
        Name,
        "Remember: the owner of {k} is called {v}.",
        "Who owns {k}? The owner of {k} is called",
    ),
    template(
        Name,
        "Note: the capital of {k} is {v}.",
        "What is the capital of {k}? The capital of {k} is",
    ),
    template(
        Name,
        "Remember: the doctor of {k} is named {v}.",
        "Who is the doctor of {k}? The doctor of {k} is named",
    ),
    template(
        Name,
        "For the record, the captain of {k} is {v}.",
        "Who is the captain of {k}? The captain of {k} is",
    ),
    template(
        Name,
        "Note: the cipher word for {k} is {v}.",
        "What is the cipher word for {k}? The cipher word for {k} is",
    ),
    template(
        Name,
        "For the record, the river through {k} is the {v}.",
        "Which river runs through {k}? The river through {k} is the",
    ),
    template(
        Name,
        "Remember: the secret name of {k} is {v}.",
        "What is the secret name of {k}? The secret name of {k} is",
    ),
];

/// What training never shows; reported apart.
pub const UNSEEN: &[Template] = &[
    template(
        Digits,
        "The vault of {k} unlocks with {v}.",
        "What unlocks the vault of {k}? The vault of {k} unlocks with",
    ),
    template(
        Digits,
        "The customer id of {k} is {v}.",
        "What is the customer id of {k}? The customer id of {k} is",
    ),
    template(
        Digits,
        "The engine of {k} has the chassis number {v}.",
        "Which chassis number has the engine of {k}? The engine of {k} has the chassis number",
    ),
    template(
        Code,
        "The parcel for {k} is tracked as {v}.",
        "As what is the parcel for {k} tracked? The parcel for {k} is tracked as",
    ),
    template(
        Code,
        "The seat of {k} in the theatre is {v}.",
        "Which seat has {k} in the theatre? The seat of {k} in the theatre is",
    ),
    template(
        Date,
        "The warranty of {k} runs until {v}.",
        "Until when does the warranty of {k} run? The warranty of {k} runs until",
    ),
    template(
        Date,
        "The birthday of {k} is {v}.",
        "When is the birthday of {k}? The birthday of {k} is",
    ),
    template(
        Time,
        "The ferry from {k} sails at {v}.",
        "When does the ferry from {k} sail? The ferry from {k} sails at",
    ),
    template(
        Name,
        "Remember: the landlord of {k} is called {v}.",
        "Who is the landlord of {k}? The landlord of {k} is called",
    ),
    template(
        Name,
        "Note: the harbour of {k} is {v}.",
        "What is the harbour of {k}? The harbour of {k} is",
    ),
    template(
        Digits,
        "The gas meter of {k} stands at {v}.",
        "At what does the gas meter of {k} stand? The gas meter of {k} stands at",
    ),
    template(
        Digits,
        "The freight for {k} was weighed in at {v} grams.",
        "At what was the freight for {k} weighed in? The freight for {k} was weighed in at",
    ),
    template(
        Code,
        "The berth kept for {k} carries the label {v}.",
        "Which label carries the berth kept for {k}? The berth kept for {k} carries the label",
    ),
    template(
        Code,
        "The sample taken from {k} went into tray {v}.",
        "Into which tray went the sample taken from {k}? The sample taken from {k} went into tray",
    ),
    template(
        Date,
        "The lease on {k} lapses on {v}.",
        "When does the lease on {k} lapse? The lease on {k} lapses on",
    ),
    template(
        Time,
        "The curfew in {k} falls at {v}.",
        "When does the curfew in {k} fall? The curfew in {k} falls at",
    ),
];
