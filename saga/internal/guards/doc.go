// Package guards is the mutation testing of the guards: it takes each guard of the
// list out of the code, one at a time, and runs the test that holds it, which has
// to fail. It has only tests:
//
//	go test ./saga/internal/guards                        # each entry still names one place in the code
//	make guards-short                                     # the quick ones, on SQLite, without a server
//	make guards                                           # all, on private servers; writes README.md
//	go test ./saga/internal/guards -guards all -guards.only 'finish-all'
//
// A run fails if a guard can be removed without a failing test, if the code without
// it does not compile, if its text is not in its file exactly once, or if its test
// fails with the guard in place.
//
// Nothing in the working copy changes: the compiler reads the changed file through
// the flag -overlay of the go command.
//
// Mutation tools that change every operator of a package (gremlins, ooze,
// go-mutesting) do not do this work. They know Go's operators and not the text of
// SQL statements, where half of the guards are; they run all tests of a package for
// each of thousands of changes, against three databases; and most of their
// survivors are not guards. A list names the guard, the reason for it, and the test
// that holds it.
package guards
