// Package redact keeps the secrets of a URL out of what people read.
package redact

import (
	"errors"
	"net/url"
	"strings"
)

// URL returns a URL for people: without its password, and without its query,
// which may hold another.
func URL(at *url.URL) string {
	clean := *at
	clean.RawQuery, clean.Fragment = "", ""
	return clean.Redacted()
}

// Error returns err, or an error with the same text but for the secrets of the
// URL, if they are in it.
func Error(err error, at *url.URL) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, secret := range secrets(at) {
		text = strings.ReplaceAll(text, secret, "xxxxx")
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// secrets are the password and the values of the query, as they are and as they
// are written in the URL.
func secrets(at *url.URL) (secrets []string) {
	add := func(secret string) {
		if secret != "" {
			secrets = append(secrets, secret, url.QueryEscape(secret), url.PathEscape(secret))
		}
	}
	if password, _ := at.User.Password(); password != "" {
		add(password)
		_, written, _ := strings.Cut(at.User.String(), ":")
		add(written)
	}
	for name, values := range at.Query() {
		for _, word := range []string{"pass", "secret", "token", "key"} {
			if strings.Contains(strings.ToLower(name), word) {
				for _, value := range values {
					add(value)
				}
			}
		}
	}
	return secrets
}
