// Package ctl is the command with which operators look at transactions and act on them.
// Package [github.com/tccsaga/tccsaga/saga/sagactl] is this command as a program of its own; its
// pageOf describes all commands, flags and exit codes.
//
// A program can have the command inside, for example as "shop saga ...". [Main] runs it, and
// [Command] returns it as a part of a command tree of spf13/cobra:
//
//	if len(os.Args) > 1 && os.Args[1] == "saga" {
//		os.Exit(ctl.Main(ctx, os.Args[2:], ctl.Config{Name: "shop", DB: db, Register: register}))
//	}
//
// Such a program knows its database, so nobody has to type an address. It also knows the kinds of
// its branches: the command then reads their barrier rows in other databases, and checks a
// resolve with them. The command starts no engine and calls no branch.
//
// The output of -o json and -o jsonl is made of the types of package saga, such as
// [saga.Summary], [saga.Transaction] and [saga.ActionRecord], and of their fields in JSON. New
// versions may add fields.
//
// A call of the command uses nothing of another call, so several can run at the same time in one
// process.
package ctl
