-- Whether every migration is applied is asked with the control plane's login: `tallygate doctor`, `tallygate db status`.
GRANT SELECT ON schema_migrations TO tallygate_control;
