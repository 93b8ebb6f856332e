//! Broker knobs of TLS, SASL and delegation tokens.
//! Names, types, defaults and ranges are Apache Kafka 4.4's.

use super::prelude::*;

knobs! { PROTECTION: "Security",
    "connections.max.reauth.ms", Long, "0", Any, Static, Refused(SECURITY);
    "sasl.server.max.receive.size", Int, "524288", Any, Static, Refused(SECURITY);
    "security.providers", String, unset, Any, Static, Refused(SECURITY);
    "principal.builder.class", Class,
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder", Any, Node,
        Refused(JVM);
    "ssl.client.auth", String, "none", OneOf(&["required", "requested", "none"]), Node,
        Refused(SECURITY);
    "ssl.principal.mapping.rules", String, "DEFAULT", Any, Static, Refused(SECURITY);
    "ssl.allow.dn.changes", Boolean, "false", Any, Static, Refused(SECURITY);
    "ssl.allow.san.changes", Boolean, "false", Any, Static, Refused(SECURITY);
    "ssl.protocol", String, "TLSv1.3", Any, Node, Refused(SECURITY);
    "ssl.provider", String, unset, Any, Node, Refused(SECURITY);
    "ssl.enabled.protocols", List, "TLSv1.2,TLSv1.3", Distinct, Node, Refused(SECURITY);
    "ssl.keystore.type", String, "JKS", Any, Node, Refused(SECURITY);
    "ssl.keystore.location", String, unset, Any, Node, Refused(SECURITY);
    "ssl.keystore.password", Password, unset, Any, Node, Refused(SECURITY);
    "ssl.key.password", Password, unset, Any, Node, Refused(SECURITY);
    "ssl.keystore.key", Password, unset, Any, Node, Refused(SECURITY);
    "ssl.keystore.certificate.chain", Password, unset, Any, Node, Refused(SECURITY);
    "ssl.truststore.type", String, "JKS", Any, Node, Refused(SECURITY);
    "ssl.truststore.location", String, unset, Any, Node, Refused(SECURITY);
    "ssl.truststore.password", Password, unset, Any, Node, Refused(SECURITY);
    "ssl.truststore.certificates", Password, unset, Any, Node, Refused(SECURITY);
    "ssl.keymanager.algorithm", String, unset, Any, Node, Refused(SECURITY);
    "ssl.trustmanager.algorithm", String, unset, Any, Node, Refused(SECURITY);
    "ssl.endpoint.identification.algorithm", String, "https", Any, Node, Refused(SECURITY);
    "ssl.secure.random.implementation", String, unset, Any, Node, Refused(SECURITY);
    "ssl.cipher.suites", List, "", Distinct, Node, Refused(SECURITY);
    "ssl.engine.factory.class", Class, unset, Any, Node, Refused(JVM);
    "sasl.mechanism.inter.broker.protocol", String, "GSSAPI", Any, Node, Refused(SECURITY);
    "sasl.enabled.mechanisms", List, "GSSAPI", Distinct, Node, Refused(SECURITY);
    "sasl.server.callback.handler.class", Class, unset, Any, Static, Refused(JVM);
    "sasl.kerberos.principal.to.local.rules", List, "DEFAULT", Distinct, Node, Refused(SECURITY);
    "sasl.jaas.config", Password, unset, Any, Node, Refused(SECURITY);
    "sasl.client.callback.handler.class", Class, unset, Any, Static, Refused(JVM);
    "sasl.login.class", Class, unset, Any, Static, Refused(JVM);
    "sasl.login.callback.handler.class", Class, unset, Any, Static, Refused(JVM);
    "sasl.kerberos.service.name", String, unset, Any, Node, Refused(SECURITY);
    "sasl.kerberos.kinit.cmd", String, "/usr/bin/kinit", Any, Node, Refused(SECURITY);
    "sasl.kerberos.ticket.renew.window.factor", Double, "0.8", Any, Node, Refused(SECURITY);
    "sasl.kerberos.ticket.renew.jitter", Double, "0.05", Any, Node, Refused(SECURITY);
    "sasl.kerberos.min.time.before.relogin", Long, "60000", Any, Node, Refused(SECURITY);
    "sasl.login.refresh.window.factor", Double, "0.8", Share(0.5, 1.0), Node, Refused(SECURITY);
    "sasl.login.refresh.window.jitter", Double, "0.05", Share(0.0, 0.25), Node, Refused(SECURITY);
    "sasl.login.refresh.min.period.seconds", Short, "60", Between(0, 900), Node, Refused(SECURITY);
    "sasl.login.refresh.buffer.seconds", Short, "300", Between(0, 3600), Node, Refused(SECURITY);
    "sasl.login.connect.timeout.ms", Int, unset, Any, Static, Refused(SECURITY);
    "sasl.login.read.timeout.ms", Int, unset, Any, Static, Refused(SECURITY);
    "sasl.login.retry.backoff.max.ms", Long, "10000", Any, Static, Refused(SECURITY);
    "sasl.login.retry.backoff.ms", Long, "100", Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.jwt.retriever.class", Class,
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever", Any, Static,
        Refused(JVM);
    "sasl.oauthbearer.jwt.validator.class", Class,
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator", Any, Static,
        Refused(JVM);
    "sasl.oauthbearer.scope", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.client.credentials.client.id", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.client.credentials.client.secret", Password, unset, Any, Static,
        Refused(SECURITY);
    "sasl.oauthbearer.assertion.algorithm", String, "RS256", OneOf(&["ES256", "RS256"]), Static,
        Refused(SECURITY);
    "sasl.oauthbearer.assertion.claim.aud", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.assertion.claim.exp.seconds", Int, "300", Between(0, 86400), Static,
        Refused(SECURITY);
    "sasl.oauthbearer.assertion.claim.iss", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.assertion.claim.jti.include", Boolean, "false", Any, Static,
        Refused(SECURITY);
    "sasl.oauthbearer.assertion.claim.nbf.seconds", Int, "60", Between(0, 3600), Static,
        Refused(SECURITY);
    "sasl.oauthbearer.assertion.claim.sub", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.assertion.file", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.assertion.private.key.file", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.assertion.private.key.passphrase", Password, unset, Any, Static,
        Refused(SECURITY);
    "sasl.oauthbearer.assertion.template.file", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.scope.claim.name", String, "scope", Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.sub.claim.name", String, "sub", Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.token.endpoint.url", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.jwks.endpoint.url", String, unset, Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.jwks.endpoint.refresh.ms", Long, "3600000", Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Long, "100", Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", Long, "10000", Any, Static,
        Refused(SECURITY);
    "sasl.oauthbearer.clock.skew.seconds", Int, "30", Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.allow.unverified.audience", Boolean, "false", Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.expected.audience", List, "", Distinct, Static, Refused(SECURITY);
    "sasl.oauthbearer.allow.unverified.issuer", Boolean, "false", Any, Static, Refused(SECURITY);
    "sasl.oauthbearer.expected.issuer", String, unset, Any, Static, Refused(SECURITY);
}

knobs! { DELEGATION_TOKENS: "Delegation tokens",
    "delegation.token.secret.key", Password, unset, Any, Static, Refused(TOKENS);
    "delegation.token.max.lifetime.ms", Long, "604800000", AtLeast(1), Static, Reported(TOKENS);
    "delegation.token.expiry.time.ms", Long, "86400000", AtLeast(1), Static, Reported(TOKENS);
    "delegation.token.expiry.check.interval.ms", Long, "3600000", AtLeast(1), Static,
        Reported(TOKENS);
}

knobs! { AUTHORIZATION: "Authorization",
    "super.users", String, unset, Any, Static, Refused(AUTHORIZING);
    "allow.everyone.if.no.acl.found", Boolean, unset, Any, Static, Refused(AUTHORIZING);
}
