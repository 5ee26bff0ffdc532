package xa

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// prefix begins the xid of every branch of this package.
const prefix = "tccsaga:"

// The most bytes of an xid. On MySQL and MariaDB, it has two parts of 64 bytes. On PostgreSQL,
// it has at most 199, so no xid is shortened there.
const (
	mysqlPart = 64
	mysqlMost = 2 * mysqlPart
)

// xid returns the name of the prepared transaction of a branch:
//
//	tccsaga:LOG:gid/branch          LOG is a digest of the id of the engine's log
//	tccsaga:LOG:begin/DIGEST/branch if the gid is too long: its begin, and its digest
//
// It is the same for all calls of the branch.
func xid(d dialect.Dialect, log, gid, branch string) string {
	first := prefix + digest(cmp.Or(log, "-")) + ":"
	id := first + gid + "/" + branch
	if d != dialect.MySQL || len(id) <= mysqlMost {
		return id
	}
	rest := "/" + digest(gid) + "/" + branch
	return first + gid[:mysqlMost-len(first)-len(rest)] + rest
}

// digest returns 22 characters: letters, digits, dashes and underscores.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// parse is the inverse of xid; false if text is not an xid of this package.
func parse(text string) (p Prepared, ok bool) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return Prepared{}, false
	}
	log, rest, ok := strings.Cut(rest, ":")
	if !ok || len(log) != len(digest("")) {
		return Prepared{}, false
	}
	p = Prepared{XID: text, Log: log}
	switch parts := strings.Split(rest, "/"); len(parts) {
	case 2:
		p.GID, p.BranchID = parts[0], parts[1]
	case 3:
		p.GID, p.Digest, p.BranchID = parts[0], parts[1], parts[2]
	default:
		return Prepared{}, false
	}
	return p, p.GID != "" && p.BranchID != ""
}

// noMark is the format of an xid whose connection has no mark. It is MySQL's default.
const noMark = 1

// literal returns an xid as a statement needs it. On MySQL, the format is the mark of the
// connection that prepares the transaction, or noMark.
func literal(d dialect.Dialect, id string, format uint32) string {
	if d == dialect.MySQL {
		global, branch := id, ""
		if len(id) > mysqlPart {
			global, branch = id[:mysqlPart], id[mysqlPart:]
		}
		// In hexadecimal, no character has a special meaning.
		return fmt.Sprintf("X'%x',X'%x',%d", global, branch, max(format, noMark))
	}
	return `E'` + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(id) + `'`
}
