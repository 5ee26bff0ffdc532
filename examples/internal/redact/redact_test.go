package redact

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestSecretsOfURLs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ location, want string }{
		{"mysql://root:s3cret@db:3306/shop", "mysql://root:xxxxx@db:3306/shop"},
		{"postgres://db/shop?user=root&password=s3cret&sslmode=disable", "postgres://db/shop"},
		{"nats://root:s3cret@nats:4222", "nats://root:xxxxx@nats:4222"},
		{"http://dtm:36789/api?token=s3cret#s3cret", "http://dtm:36789/api"},
		{"mysql://root:s3cret%2F%40@db/shop", "mysql://root:xxxxx@db/shop"},
	} {
		at, err := url.Parse(c.location)
		if err != nil {
			t.Fatal(err)
		}
		if got := URL(at); got != c.want {
			t.Errorf("%s: %s, want %s", c.location, got, c.want)
		}
		password, _ := at.User.Password()
		failed := errors.New("connecting to " + c.location + " as root with " + password + " has failed")
		if got := Error(failed, at); strings.Contains(strings.ReplaceAll(got.Error(), "#s3cret", ""), "s3cret") || !strings.HasSuffix(got.Error(), "has failed") {
			t.Errorf("%s: %v", c.location, got)
		}
	}
	at, _ := url.Parse("mysql://root@db/shop")
	if failed := errors.New("down"); Error(failed, at) != failed || Error(nil, at) != nil {
		t.Error("an error without a secret is not the same any more")
	}
}
