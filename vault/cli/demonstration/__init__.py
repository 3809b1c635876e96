"""The demo's rooms: a home of its own, two servers, customers, an engine that ranks offers, and the story."""
