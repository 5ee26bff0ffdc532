// Package explain reads a transaction for people. From a [saga.Transaction], as Lookup returns
// it, it makes
//
//   - a [Timeline]: what happened, in order, and what is planned;
//   - a [Standing] for each branch: what it has done, what is called next, and why that has
//     not happened yet;
//   - a [Diagnosis]: where the transaction stands, in one sentence;
//   - the [SQL] that reads the same rows by hand.
//
// A console and a command line show the same, because both use this package. Each value has
// fields for programs, such as a page in another language, and a method Text, which returns an
// English sentence.
//
// All functions are pure: they read no database and no clock, and are safe for concurrent use.
package explain
