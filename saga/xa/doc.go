// Package xa has branches whose work is prepared, and committed when the transaction is decided.
package xa
