package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tccsaga/tccsaga/saga"
)

// Credential lets a client use the API. It has either a Token, or a User and a Password.
//
// A client sends a token in the header "Authorization: Bearer TOKEN". It sends a user and a
// password by basic authentication: most HTTP clients, and DTM's client in Go, do that if the
// URL of the server is "http://user:password@host:36789/api/dtmsvr". DTM's clients pass that
// URL on to the branches, so a branch learns the password. Several credentials may be valid at
// the same time. To replace one, add the new one, change the clients, and remove the old one.
type Credential struct {
	// Token is a secret of at least 16 characters. Password has at least 16 characters too.
	// They may have printable ASCII characters without spaces. The User must not have a
	// colon.
	Token, User, Password string

	// ReadOnly allows only newGid, version, query and all.
	ReadOnly bool

	// GIDPrefix is the beginning of every gid that this client may use, and of those that
	// newGid returns to it. It begins with Config.GIDPrefix. Defaults to Config.GIDPrefix.
	GIDPrefix string
}

// minSecret is the least characters of a secret. The API does not limit how often a client
// may guess.
const minSecret = 16

// client is who sends a request.
type client struct {
	secret   [sha256.Size]byte // of the header that it sends
	prefix   string            // of its gids
	readOnly bool
}

// clients are those that the API knows. If there is none, every program is a client.
type clients []client

func parseCredentials(credentials []Credential, prefix string) (all clients, err error) {
	for i, c := range credentials {
		parsed, err := c.parse(prefix)
		for _, other := range all {
			if err == nil && other.secret == parsed.secret {
				err = errors.New("it is there twice")
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%w: Config.Credentials[%d]: %w", saga.ErrInvalid, i, err)
		}
		all = append(all, parsed)
	}
	return all, nil
}

func (c Credential) parse(prefix string) (client, error) {
	parsed := client{prefix: prefix, readOnly: c.ReadOnly}
	secret := c.Token
	if c.Token == "" {
		secret = c.Password
	}
	switch {
	case (c.Token == "") == (c.User == "" && c.Password == ""):
		return parsed, errors.New("it needs either a Token, or a User and a Password")
	case c.Token == "" && c.User == "":
		return parsed, errors.New("it has a Password without a User")
	case len(secret) < minSecret:
		return parsed, fmt.Errorf("its secret has %d characters, at least %d are needed", len(secret), minSecret)
	case !isASCII(secret) || !isASCII(c.User) || strings.Contains(c.User, ":"):
		return parsed, errors.New("only printable ASCII characters without spaces are possible, and the User must not have a colon")
	case c.GIDPrefix != "" && !strings.HasPrefix(c.GIDPrefix, prefix):
		return parsed, fmt.Errorf("its GIDPrefix is %q, and it must begin with Config.GIDPrefix, which is %q", c.GIDPrefix, prefix)
	}
	if c.GIDPrefix != "" {
		parsed.prefix = c.GIDPrefix
	}
	parsed.secret = basicSecret(c.User, c.Password)
	if c.Token != "" {
		parsed.secret = tokenSecret(c.Token)
	}
	return parsed, checkPrefix("GIDPrefix", parsed.prefix)
}

func tokenSecret(token string) [sha256.Size]byte { return sha256.Sum256([]byte("bearer " + token)) }

func basicSecret(user, password string) [sha256.Size]byte {
	return sha256.Sum256([]byte("basic " + user + ":" + password))
}

// find returns who has sent a request. It takes the same time for each secret of the same
// length.
func (all clients) find(r *http.Request, prefix string) (client, error) {
	if len(all) == 0 {
		return client{prefix: prefix}, nil
	}
	header := r.Header.Values("Authorization")
	if len(header) != 1 {
		return client{}, &refusal{http.StatusUnauthorized, fmt.Sprintf("the request has %d Authorization headers, 1 is needed: send a token as \"Bearer TOKEN\", or a user and a password by basic authentication", len(header))}
	}
	var secret [sha256.Size]byte
	if user, password, basic := r.BasicAuth(); basic {
		secret = basicSecret(user, password)
	} else if scheme, token, _ := strings.Cut(header[0], " "); strings.EqualFold(scheme, "Bearer") {
		secret = tokenSecret(strings.TrimSpace(token))
	} else {
		return client{}, &refusal{http.StatusUnauthorized, "the Authorization header is neither \"Bearer TOKEN\" nor basic authentication"}
	}
	found, index := 0, 0
	for i := range all {
		same := subtle.ConstantTimeCompare(all[i].secret[:], secret[:])
		found |= same
		index = subtle.ConstantTimeSelect(same, i, index)
	}
	if found == 0 {
		return client{}, &refusal{http.StatusUnauthorized, "this server does not know the token, or the user and password"}
	}
	return all[index], nil
}
