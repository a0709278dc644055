BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE prumux_attempts (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	worker TEXT NOT NULL, 
	remedy TEXT NOT NULL, 
	began_at TEXT NOT NULL, 
	training_at TEXT, 
	ended_at TEXT, 
	outcome TEXT, 
	cause TEXT, 
	message TEXT, 
	PRIMARY KEY (study_id, number, attempt), 
	FOREIGN KEY(study_id) REFERENCES prumux_studies (study_id)
);
INSERT INTO "prumux_attempts" VALUES(1,0,1,'elsewhere:1:00000000','','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','told',NULL,NULL);
INSERT INTO "prumux_attempts" VALUES(1,1,1,'elsewhere:1:00000000','','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','told',NULL,NULL);
INSERT INTO "prumux_attempts" VALUES(1,2,1,'elsewhere:1:00000000','','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','told','sparsity_not_reached','N=1 s=0.90 was set to fail.');
INSERT INTO "prumux_attempts" VALUES(1,3,1,'elsewhere:1:00000000','','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','given_back',NULL,NULL);
CREATE TABLE prumux_budgets (
	study_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	budget DOUBLE NOT NULL, 
	PRIMARY KEY (study_id, position), 
	FOREIGN KEY(study_id) REFERENCES prumux_studies (study_id)
);
INSERT INTO "prumux_budgets" VALUES(1,0,0.01);
INSERT INTO "prumux_budgets" VALUES(1,1,0.05);
CREATE TABLE prumux_calibration_timings (
	calibration_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	num_instances INTEGER NOT NULL, 
	hidden_size INTEGER NOT NULL, 
	head_counts TEXT NOT NULL, 
	feedforward_sizes TEXT NOT NULL, 
	seconds DOUBLE NOT NULL, 
	seconds_q1 DOUBLE NOT NULL, 
	seconds_q3 DOUBLE NOT NULL, 
	share DOUBLE NOT NULL, 
	PRIMARY KEY (calibration_id, position), 
	FOREIGN KEY(calibration_id) REFERENCES prumux_calibrations (calibration_id)
);
CREATE TABLE prumux_calibrations (
	calibration_id INTEGER NOT NULL, 
	profile TEXT NOT NULL, 
	encoder_json TEXT NOT NULL, 
	coefficients_json TEXT NOT NULL, 
	log_std DOUBLE NOT NULL, 
	baseline_throughput DOUBLE NOT NULL, 
	num_repeats INTEGER NOT NULL, 
	duration_s DOUBLE NOT NULL, 
	created_at TEXT NOT NULL, 
	PRIMARY KEY (calibration_id), 
	FOREIGN KEY(profile) REFERENCES prumux_profiles (name)
);
CREATE TABLE prumux_claims (
	study_id INTEGER NOT NULL, 
	num_instances INTEGER NOT NULL, 
	sparsity DOUBLE NOT NULL, 
	worker TEXT NOT NULL, 
	claimed_at TEXT NOT NULL, 
	number INTEGER, 
	hyperparameters TEXT DEFAULT '{}' NOT NULL, 
	UNIQUE (study_id, num_instances, sparsity, hyperparameters), 
	FOREIGN KEY(study_id) REFERENCES prumux_studies (study_id)
);
INSERT INTO "prumux_claims" VALUES(1,1,0.0,'elsewhere:1','2026-01-01T00:00:00.000+00:00',0,'{}');
INSERT INTO "prumux_claims" VALUES(1,1,0.6,'elsewhere:1','2026-01-01T00:00:00.000+00:00',1,'{}');
INSERT INTO "prumux_claims" VALUES(1,1,0.9,'elsewhere:1','2026-01-01T00:00:00.000+00:00',2,'{}');
INSERT INTO "prumux_claims" VALUES(1,2,0.0,'elsewhere:1','2026-01-01T00:00:00.000+00:00',3,'{}');
CREATE TABLE prumux_environments (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (study_id, number, name), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number)
);
INSERT INTO "prumux_environments" VALUES(1,0,'evaluator','synthetic');
INSERT INTO "prumux_environments" VALUES(1,1,'evaluator','synthetic');
CREATE TABLE prumux_failure_causes (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	cause TEXT NOT NULL, 
	message TEXT NOT NULL, 
	last_accuracy DOUBLE, 
	finished_at TEXT NOT NULL, 
	reachable_accuracy DOUBLE, 
	PRIMARY KEY (study_id, number), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number)
);
INSERT INTO "prumux_failure_causes" VALUES(1,2,'sparsity_not_reached','N=1 s=0.90 was set to fail.',NULL,'2026-01-01T00:00:00.000+00:00',NULL);
CREATE TABLE prumux_measurements (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	accuracy DOUBLE NOT NULL, 
	accuracy_std DOUBLE NOT NULL, 
	num_examples INTEGER NOT NULL, 
	num_compositions INTEGER NOT NULL, 
	correctness BLOB NOT NULL, 
	sparsity DOUBLE NOT NULL, 
	hidden_size INTEGER NOT NULL, 
	head_counts TEXT NOT NULL, 
	feedforward_sizes TEXT NOT NULL, 
	num_encoder_parameters BIGINT NOT NULL, 
	num_parameters BIGINT NOT NULL, 
	duration_s DOUBLE NOT NULL, 
	checkpoint TEXT NOT NULL, 
	seed BIGINT NOT NULL, 
	finished_at TEXT NOT NULL, 
	PRIMARY KEY (study_id, number), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number)
);
INSERT INTO "prumux_measurements" VALUES(1,0,0.90625,0.0,64,1,X'FF9FFFCFF9FFFFFF',0.0,128,'[4, 4, 4, 4]','[512, 512, 512, 512]',786432,1186432,10.0,'',1508380042,'2026-01-01T00:00:00.000+00:00');
INSERT INTO "prumux_measurements" VALUES(1,1,0.890625,0.0,64,1,X'FBBFFFCFF9FBFFFF',0.6,128,'[2, 2, 2, 2]','[205, 205, 205, 205]',314573,714573,14.0,'',1969579560,'2026-01-01T00:00:00.000+00:00');
CREATE TABLE prumux_phase_history (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	phase_position INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	step INTEGER NOT NULL, 
	PRIMARY KEY (study_id, number, phase_position, position), 
	FOREIGN KEY(study_id, number, phase_position) REFERENCES prumux_phases (study_id, number, position)
);
INSERT INTO "prumux_phase_history" VALUES(1,0,0,0,'loss',0.0196078431372549,50);
INSERT INTO "prumux_phase_history" VALUES(1,0,0,1,'loss',9.90099009900990111032e-03,100);
INSERT INTO "prumux_phase_history" VALUES(1,1,1,0,'loss',0.0196078431372549,50);
INSERT INTO "prumux_phase_history" VALUES(1,1,1,1,'loss',9.90099009900990111032e-03,100);
INSERT INTO "prumux_phase_history" VALUES(1,1,2,0,'loss',4.76190476190476164042e-02,20);
INSERT INTO "prumux_phase_history" VALUES(1,1,2,1,'loss',2.43902439024390252364e-02,40);
CREATE TABLE prumux_phases (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	num_updates INTEGER NOT NULL, 
	duration_s DOUBLE NOT NULL, 
	memory_mib DOUBLE NOT NULL, 
	is_cached BOOLEAN NOT NULL, 
	PRIMARY KEY (study_id, number, position), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number)
);
INSERT INTO "prumux_phases" VALUES(1,0,0,'finetune',100,10.0,300.0,0);
INSERT INTO "prumux_phases" VALUES(1,1,0,'finetune',100,0.0,300.0,1);
INSERT INTO "prumux_phases" VALUES(1,1,1,'prune',100,10.0,300.0,0);
INSERT INTO "prumux_phases" VALUES(1,1,2,'finetune_pruned',40,4.0,300.0,0);
CREATE TABLE prumux_prior_trials (
	study_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	prior_id INTEGER NOT NULL, 
	PRIMARY KEY (study_id, position, number), 
	FOREIGN KEY(study_id) REFERENCES prumux_studies (study_id), 
	FOREIGN KEY(prior_id) REFERENCES prumux_studies (study_id)
);
CREATE TABLE prumux_profiles (
	name TEXT NOT NULL, 
	device TEXT NOT NULL, 
	processor TEXT NOT NULL, 
	dtype TEXT NOT NULL, 
	batch_size INTEGER NOT NULL, 
	length INTEGER NOT NULL, 
	num_threads INTEGER NOT NULL, 
	created_at TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE prumux_runners_up (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	num_instances INTEGER NOT NULL, 
	sparsity DOUBLE NOT NULL, 
	chance DOUBLE NOT NULL, 
	expected_speedup DOUBLE NOT NULL, 
	expected_gain DOUBLE NOT NULL, 
	predicted_minutes DOUBLE NOT NULL, 
	score DOUBLE NOT NULL, 
	hyperparameters TEXT DEFAULT '{}' NOT NULL, 
	chance_best DOUBLE, 
	log_gain DOUBLE, 
	PRIMARY KEY (study_id, number, position), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number)
);
CREATE TABLE prumux_schema_version (
	version INTEGER NOT NULL, 
	views_hash TEXT NOT NULL, 
	changed_at TEXT NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "prumux_schema_version" VALUES(6,'00f949f81b0f8eaa','2026-01-01T00:00:00.000+00:00');
CREATE TABLE prumux_starts (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	num_instances INTEGER NOT NULL, 
	sparsity DOUBLE NOT NULL, 
	seed BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	chance DOUBLE, 
	expected_speedup DOUBLE, 
	expected_gain DOUBLE, 
	predicted_minutes DOUBLE, 
	score DOUBLE, 
	started_at TEXT NOT NULL, 
	hyperparameters TEXT DEFAULT '{}' NOT NULL, 
	chance_best DOUBLE, 
	log_gain DOUBLE, 
	PRIMARY KEY (study_id, number), 
	FOREIGN KEY(study_id) REFERENCES prumux_studies (study_id)
);
INSERT INTO "prumux_starts" VALUES(1,0,1,0.0,1508380042,'the dense baseline is always first',NULL,NULL,NULL,NULL,NULL,'2026-01-01T00:00:00.000+00:00','{}',NULL,NULL);
INSERT INTO "prumux_starts" VALUES(1,1,1,0.6,1969579560,'in the order of the grid',NULL,NULL,NULL,NULL,NULL,'2026-01-01T00:00:00.000+00:00','{}',NULL,NULL);
INSERT INTO "prumux_starts" VALUES(1,2,1,0.9,251542593,'in the order of the grid',NULL,NULL,NULL,NULL,NULL,'2026-01-01T00:00:00.000+00:00','{}',NULL,NULL);
INSERT INTO "prumux_starts" VALUES(1,3,2,0.0,1856336541,'in the order of the grid',NULL,NULL,NULL,NULL,NULL,'2026-01-01T00:00:00.000+00:00','{}',NULL,NULL);
CREATE TABLE prumux_studies (
	study_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	task TEXT NOT NULL, 
	config_json TEXT NOT NULL, 
	config_hash TEXT NOT NULL, 
	data_fingerprint TEXT NOT NULL, 
	seed BIGINT NOT NULL, 
	created_at TEXT NOT NULL, 
	updated_at TEXT NOT NULL, 
	prior_at TEXT, 
	PRIMARY KEY (study_id), 
	UNIQUE (name)
);
INSERT INTO "prumux_studies" VALUES(1,'qnli-golden','qnli','{"name": "qnli-golden", "search": {"budgets": [0.01, 0.05], "learn_from_others": true, "max_attempts": 3, "max_trials": 12, "sampler": "grid", "seed": 0, "sparsities": [0.0, 0.6, 0.9], "stop_chance": 0.05, "stop_gain": 0.05, "stop_hopeless": true, "timeout_s": 0.0, "trial_timeout_s": 0.0, "widths": [1, 2]}, "trainer": {"accuracy": {"batch_size": 64, "num_compositions": 3}, "checkpoint_interval_s": 20.0, "data": {"max_length": 32, "num_held_out": 1000, "num_train": 24000, "num_validation": 4000, "seed": 0, "source": "builtin"}, "device": "auto", "finetune": {"batch_size": 64, "bucket_by_length": true, "decay": "linear", "distill_weight": 0.0, "freeze_embeddings": false, "learning_rate": 0.0003, "max_sequences": 320, "num_evaluations": 4, "num_updates": 400, "retrieval_weight": 0.0, "state_distill_weight": 0.0, "temperature": 2.0, "warmup": 0.1, "weight_decay": 0.01}, "finetune_pruned": {"alignment_tokens": 0, "batch_size": 64, "bucket_by_length": true, "decay": "linear", "distill_weight": 0.5, "freeze_embeddings": false, "layer_alignment": "ordered", "layer_distill_weight": 0.0, "learning_rate": 0.0003, "max_sequences": 320, "num_evaluations": 4, "num_updates": 200, "retrieval_weight": 0.0, "state_distill_weight": 0.0, "stretch": 0.0, "teacher": "same_width", "temperature": 2.0, "warmup": 0.1, "weight_decay": 0.01}, "model": {"demultiplexer": "rsa", "demux_norm": "all", "embed_mode": "two_pass", "key_norm": 0.0, "mask_mode": "union", "multiplexer": "gaussian_hadamard", "num_demux_layers": 2, "source": "builtin", "wide_source": "", "widening": "keys"}, "narrow": {"batch_size": 64, "bucket_by_length": true, "decay": "linear", "distill_weight": 0.5, "freeze_embeddings": false, "learning_rate": 0.0003, "max_sequences": 320, "num_evaluations": 4, "num_updates": 1600, "retrieval_weight": 0.0, "state_distill_weight": 0.0, "temperature": 2.0, "warmup": 0.1, "weight_decay": 0.01}, "num_parts": 1, "precision": "float32", "pretrain": {"bag_weight": 0.0, "batch_size": 64, "bucket_by_length": true, "decay": "linear", "detect_weight": 0.0, "distill_weight": 1.0, "learning_rate": 0.0003, "mask_probability": 0.15, "max_sequences": 320, "mlm_weight": 1.0, "num_updates": 0, "retrieval_weight": 0.0, "teacher": "source", "warmup": 0.1, "weight_decay": 0.01}, "prime": {"bag_weight": 0.0, "batch_size": 64, "bucket_by_length": true, "decay": "linear", "learning_rate": 0.0003, "max_sequences": 320, "num_evaluations": 4, "num_updates": 600, "patience": 0, "slots_per_token": 1, "stop_accuracy": 1.0, "warmup": 0.1, "weight_decay": 0.01}, "prune": {"alignment_tokens": 0, "allows_slow_gates": false, "batch_size": 64, "bucket_by_length": true, "decay": "linear", "freeze_embeddings": false, "gate_learning_rate": 0.1, "gates": ["heads", "head_layers", "feedforward_layers", "intermediate", "hidden"], "label_weight": 0.0, "ladder": [], "layer_alignment": "ordered", "layer_distill_weight": 0.5, "learning_rate": 0.0003, "logit_distill_weight": 0.5, "max_sequences": 320, "multiplier_learning_rate": 1.0, "num_updates": 400, "rung_updates": 100, "sparsity_convention": "weights", "sparsity_warmup": 0.5, "state_distill_weight": 0.0, "teacher": "same_width", "temperature": 2.0, "tolerance": 0.05, "warmup": 0.1, "weight_decay": 0.01}, "task": "qnli", "throughput": {"batch_size": 64, "length": 0, "num_repeats": 20, "num_warmup": 3}}}','14a7e6b7d54fdaa6','synthetic:plain:e32da19431faed1e',0,'2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00');
CREATE TABLE prumux_throughputs (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	throughput DOUBLE NOT NULL, 
	throughput_q1 DOUBLE NOT NULL, 
	throughput_q3 DOUBLE NOT NULL, 
	baseline_throughput DOUBLE NOT NULL, 
	speedup DOUBLE NOT NULL, 
	speedup_q1 DOUBLE NOT NULL, 
	speedup_q3 DOUBLE NOT NULL, 
	num_repeats INTEGER NOT NULL, 
	batch_size INTEGER NOT NULL, 
	length INTEGER NOT NULL, 
	dtype TEXT NOT NULL, 
	device TEXT NOT NULL, 
	num_threads INTEGER NOT NULL, 
	profile TEXT, 
	baseline_spread DOUBLE, 
	is_clean BOOLEAN, 
	PRIMARY KEY (study_id, number, position), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number), 
	FOREIGN KEY(profile) REFERENCES prumux_profiles (name)
);
INSERT INTO "prumux_throughputs" VALUES(1,0,0,1000.0,990.0,1010.0,1000.0,1.0,0.99,1.01,20,32,64,'float32','synthetic',1,NULL,NULL,NULL);
INSERT INTO "prumux_throughputs" VALUES(1,1,0,2.14893617021276577363e+03,2.12744680851063822047e+03,2.17042553191489332679e+03,1000.0,2.14893617021276561729e+00,2.12744680851063794335e+00,2.17042553191489329122e+00,20,32,64,'float32','synthetic',1,NULL,NULL,NULL);
CREATE TABLE prumux_trial_hyperparameters (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	is_own BOOLEAN NOT NULL, 
	PRIMARY KEY (study_id, number, name), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number)
);
CREATE TABLE prumux_workers (
	study_id INTEGER NOT NULL, 
	worker TEXT NOT NULL, 
	host TEXT NOT NULL, 
	machine TEXT NOT NULL, 
	process INTEGER NOT NULL, 
	process_start TEXT NOT NULL, 
	joined_at TEXT NOT NULL, 
	beat_at TEXT NOT NULL, 
	left_at TEXT, 
	PRIMARY KEY (study_id, worker), 
	FOREIGN KEY(study_id) REFERENCES prumux_studies (study_id)
);
INSERT INTO "prumux_workers" VALUES(1,'elsewhere:1:00000000','elsewhere','elsewhere',1,'1','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00','2026-01-01T00:00:00.000+00:00');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'qnli-golden');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MAXIMIZE',1,1);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'study:metric_names','["accuracy", "speedup"]');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'task','"qnli"');
INSERT INTO "study_user_attributes" VALUES(2,1,'budgets_points','[1.0, 5.0]');
INSERT INTO "study_user_attributes" VALUES(3,1,'data','"synthetic:plain:e32da19431faed1e"');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'num_instances',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 2}}');
INSERT INTO "trial_params" VALUES(2,1,'sparsity',0.0,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.9, "log": false}}');
INSERT INTO "trial_params" VALUES(3,2,'num_instances',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 2}}');
INSERT INTO "trial_params" VALUES(4,2,'sparsity',0.6,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.9, "log": false}}');
INSERT INTO "trial_params" VALUES(5,3,'num_instances',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 2}}');
INSERT INTO "trial_params" VALUES(6,3,'sparsity',0.9,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.9, "log": false}}');
INSERT INTO "trial_params" VALUES(7,4,'num_instances',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 2}}');
INSERT INTO "trial_params" VALUES(8,4,'sparsity',0.0,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.9, "log": false}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'autoprumux:proposal','{"num_instances": 1, "sparsity": 0.0, "hyperparameters": [], "choice": {"reason": "the dense baseline is always first", "chance": null, "expected_speedup": null, "expected_gain": null, "predicted_minutes": null, "score": null, "chance_best": null, "log_gain": null, "runners_up": []}}');
INSERT INTO "trial_system_attributes" VALUES(2,1,'artifacts:00000000-0000-0000-0000-000000000000','"{\"artifact_id\": \"00000000-0000-0000-0000-000000000000\", \"filename\": \"log.txt\", \"mimetype\": \"text/plain\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(3,1,'artifacts:00000000-0000-0000-0000-000000000001','"{\"artifact_id\": \"00000000-0000-0000-0000-000000000001\", \"filename\": \"history.csv\", \"mimetype\": \"text/csv\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(4,1,'constraints','[-0.05]');
INSERT INTO "trial_system_attributes" VALUES(5,2,'autoprumux:proposal','{"num_instances": 1, "sparsity": 0.6, "hyperparameters": [], "choice": {"reason": "in the order of the grid", "chance": null, "expected_speedup": null, "expected_gain": null, "predicted_minutes": null, "score": null, "chance_best": null, "log_gain": null, "runners_up": []}}');
INSERT INTO "trial_system_attributes" VALUES(6,2,'artifacts:00000000-0000-0000-0000-000000000002','"{\"artifact_id\": \"00000000-0000-0000-0000-000000000002\", \"filename\": \"log.txt\", \"mimetype\": \"text/plain\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(7,2,'artifacts:00000000-0000-0000-0000-000000000003','"{\"artifact_id\": \"00000000-0000-0000-0000-000000000003\", \"filename\": \"history.csv\", \"mimetype\": \"text/csv\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(8,2,'constraints','[-0.034375]');
INSERT INTO "trial_system_attributes" VALUES(9,3,'autoprumux:proposal','{"num_instances": 1, "sparsity": 0.9, "hyperparameters": [], "choice": {"reason": "in the order of the grid", "chance": null, "expected_speedup": null, "expected_gain": null, "predicted_minutes": null, "score": null, "chance_best": null, "log_gain": null, "runners_up": []}}');
INSERT INTO "trial_system_attributes" VALUES(10,3,'artifacts:00000000-0000-0000-0000-000000000004','"{\"artifact_id\": \"00000000-0000-0000-0000-000000000004\", \"filename\": \"log.txt\", \"mimetype\": \"text/plain\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(11,4,'autoprumux:proposal','{"num_instances": 2, "sparsity": 0.0, "hyperparameters": [], "choice": {"reason": "in the order of the grid", "chance": null, "expected_speedup": null, "expected_gain": null, "predicted_minutes": null, "score": null, "chance_best": null, "log_gain": null, "runners_up": []}}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'seed','1508380042');
INSERT INTO "trial_user_attributes" VALUES(2,1,'sparsity_achieved','0.0');
INSERT INTO "trial_user_attributes" VALUES(3,1,'throughput','1000.0');
INSERT INTO "trial_user_attributes" VALUES(4,1,'minutes','0.0');
INSERT INTO "trial_user_attributes" VALUES(5,1,'accuracy_loss_points','0.0');
INSERT INTO "trial_user_attributes" VALUES(6,1,'meets_loosest_budget','true');
INSERT INTO "trial_user_attributes" VALUES(7,2,'seed','1969579560');
INSERT INTO "trial_user_attributes" VALUES(8,2,'sparsity_achieved','0.6');
INSERT INTO "trial_user_attributes" VALUES(9,2,'throughput','2148.94');
INSERT INTO "trial_user_attributes" VALUES(10,2,'minutes','0.0');
INSERT INTO "trial_user_attributes" VALUES(11,2,'accuracy_loss_points','1.562');
INSERT INTO "trial_user_attributes" VALUES(12,2,'meets_loosest_budget','true');
INSERT INTO "trial_user_attributes" VALUES(13,3,'seed','251542593');
INSERT INTO "trial_user_attributes" VALUES(14,3,'failure','"sparsity_not_reached"');
INSERT INTO "trial_user_attributes" VALUES(15,3,'message','"N=1 s=0.90 was set to fail."');
INSERT INTO "trial_user_attributes" VALUES(16,3,'minutes','0.0');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,0.90625,'FINITE');
INSERT INTO "trial_values" VALUES(2,1,1,1.0,'FINITE');
INSERT INTO "trial_values" VALUES(3,2,0,0.890625,'FINITE');
INSERT INTO "trial_values" VALUES(4,2,1,2.14893617021276561729e+00,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-01-01 00:00:00','2026-01-01 00:00:00');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-01-01 00:00:00','2026-01-01 00:00:00');
INSERT INTO "trials" VALUES(3,2,1,'FAIL','2026-01-01 00:00:00','2026-01-01 00:00:00');
INSERT INTO "trials" VALUES(4,3,1,'RUNNING','2026-01-01 00:00:00',NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE VIEW prumux_trials AS WITH base AS (
  SELECT s.study_id, m.accuracy
  FROM prumux_starts s
  JOIN prumux_measurements m ON m.study_id = s.study_id AND m.number = s.number
  WHERE s.number = (
    SELECT MAX(s2.number)
    FROM prumux_starts s2
    JOIN prumux_measurements m2 ON m2.study_id = s2.study_id AND m2.number = s2.number
    WHERE s2.study_id = s.study_id AND s2.num_instances = 1 AND s2.sparsity = 0
      AND s2.hyperparameters = '{}'
  )
)
SELECT
  st.name AS study,
  s.number AS number,
  s.num_instances AS num_instances,
  s.sparsity AS sparsity,
  m.sparsity AS sparsity_achieved,
  m.accuracy AS accuracy,
  CAST(ROUND(CAST(100.0 * (base.accuracy - m.accuracy) AS NUMERIC), 9) AS DOUBLE PRECISION) AS accuracy_loss_points,
  t.throughput AS throughput,
  t.speedup AS speedup,
  CASE
    WHEN m.number IS NOT NULL THEN 'complete'
    WHEN f.number IS NOT NULL THEN 'failed'
    ELSE 'running'
  END AS state,
  m.duration_s AS duration_s,
  s.reason AS reason,
  (
    SELECT CAST(ROUND(CAST(100.0 * (MIN(b.budget)) AS NUMERIC), 9) AS DOUBLE PRECISION)
    FROM prumux_budgets b
    WHERE b.study_id = s.study_id
      AND base.accuracy - m.accuracy <= b.budget + 1e-09
  ) AS tightest_budget_points,
  m.accuracy_std AS accuracy_std,
  m.num_examples AS num_examples,
  t.speedup_q1 AS speedup_q1,
  t.speedup_q3 AS speedup_q3,
  t.baseline_throughput AS baseline_throughput,
  t.device AS device,
  t.dtype AS dtype,
  t.batch_size AS batch_size,
  t.length AS length,
  t.num_threads AS num_threads,
  m.num_parameters AS num_parameters,
  m.num_encoder_parameters AS num_encoder_parameters,
  m.hidden_size AS hidden_size,
  m.head_counts AS head_counts,
  m.feedforward_sizes AS feedforward_sizes,
  s.seed AS seed,
  f.cause AS failure_cause,
  st.task AS task,
  st.data_fingerprint AS data_fingerprint,
  s.started_at AS started_at,
  COALESCE(m.finished_at, f.finished_at) AS finished_at,
  m.checkpoint AS checkpoint,
  t.is_clean AS is_clean,
  (
    SELECT COUNT(*) FROM prumux_attempts a
    WHERE a.study_id = s.study_id AND a.number = s.number AND a.training_at IS NOT NULL
  ) AS num_attempts,
  s.hyperparameters AS hyperparameters
FROM prumux_starts s
JOIN prumux_studies st ON st.study_id = s.study_id
LEFT JOIN prumux_measurements m ON m.study_id = s.study_id AND m.number = s.number
LEFT JOIN prumux_throughputs t
  ON t.study_id = s.study_id AND t.number = s.number AND t.position = 0
LEFT JOIN prumux_failure_causes f ON f.study_id = s.study_id AND f.number = s.number
LEFT JOIN base ON base.study_id = s.study_id;
CREATE VIEW prumux_front AS SELECT
  t.study, t.number, t.num_instances, t.sparsity, t.sparsity_achieved, t.accuracy,
  t.accuracy_loss_points, t.throughput, t.speedup, t.duration_s, t.device, t.task, t.checkpoint,
  t.hyperparameters
FROM prumux_trials t
WHERE t.state = 'complete' AND NOT EXISTS (
  SELECT 1
  FROM prumux_trials o
  WHERE o.study = t.study AND o.state = 'complete'
    AND o.accuracy >= t.accuracy AND o.speedup >= t.speedup
    AND (
      o.accuracy > t.accuracy OR o.speedup > t.speedup
      OR o.num_instances < t.num_instances
      OR (o.num_instances = t.num_instances AND o.sparsity < t.sparsity)
      OR (
        o.num_instances = t.num_instances AND o.sparsity = t.sparsity
        AND o.hyperparameters < t.hyperparameters
      )
    )
);
CREATE VIEW prumux_best_by_budget AS SELECT
  r.study, r.budget_points, r.number, r.num_instances, r.sparsity, r.sparsity_achieved,
  r.accuracy, r.accuracy_loss_points, r.throughput, r.speedup, r.device, r.task, r.checkpoint,
  r.hyperparameters
FROM (
  SELECT
    st.name AS study,
    CAST(ROUND(CAST(100.0 * (b.budget) AS NUMERIC), 9) AS DOUBLE PRECISION) AS budget_points,
    t.number, t.num_instances, t.sparsity, t.sparsity_achieved, t.accuracy,
    t.accuracy_loss_points, t.throughput, t.speedup, t.device, st.task AS task, t.checkpoint,
    t.hyperparameters,
    ROW_NUMBER() OVER (
      PARTITION BY b.study_id, b.position
      ORDER BY
        t.speedup DESC, t.accuracy DESC, t.num_instances, t.sparsity, t.hyperparameters
    ) AS place
  FROM prumux_budgets b
  JOIN prumux_studies st ON st.study_id = b.study_id
  LEFT JOIN prumux_trials t
    ON t.study = st.name AND t.state = 'complete'
    AND t.accuracy_loss_points <= 100.0 * (b.budget + 1e-09)
) r
WHERE r.place = 1;
CREATE VIEW prumux_failures AS SELECT
  st.name AS study, s.number, s.num_instances, s.sparsity, f.cause, f.message, f.last_accuracy,
  f.reachable_accuracy, s.reason, s.seed, st.task AS task, s.started_at, f.finished_at,
  (
    SELECT COUNT(*) FROM prumux_attempts a
    WHERE a.study_id = s.study_id AND a.number = s.number AND a.training_at IS NOT NULL
  ) AS num_attempts,
  s.hyperparameters
FROM prumux_failure_causes f
JOIN prumux_starts s ON s.study_id = f.study_id AND s.number = f.number
JOIN prumux_studies st ON st.study_id = f.study_id;
CREATE VIEW prumux_tries AS SELECT
  st.name AS study, a.number, a.attempt, s.num_instances, s.sparsity, a.worker, a.remedy,
  CASE
    WHEN a.outcome IS NOT NULL THEN a.outcome
    WHEN m.number IS NOT NULL OR f.number IS NOT NULL THEN 'told'
    ELSE 'running'
  END AS outcome,
  a.cause, a.message, a.began_at, a.training_at, a.ended_at, s.hyperparameters
FROM prumux_attempts a
JOIN prumux_studies st ON st.study_id = a.study_id
LEFT JOIN prumux_starts s ON s.study_id = a.study_id AND s.number = a.number
LEFT JOIN prumux_measurements m ON m.study_id = a.study_id AND m.number = a.number
LEFT JOIN prumux_failure_causes f ON f.study_id = a.study_id AND f.number = a.number;
CREATE VIEW prumux_choices AS SELECT
  st.name AS study, s.number, 0 AS place, s.num_instances, s.sparsity, s.chance,
  s.chance_best, s.expected_speedup, s.expected_gain, s.log_gain, s.predicted_minutes, s.score,
  s.reason, s.hyperparameters
FROM prumux_starts s
JOIN prumux_studies st ON st.study_id = s.study_id
UNION ALL
SELECT
  st.name, r.number, r.position, r.num_instances, r.sparsity, r.chance,
  r.chance_best, r.expected_speedup, r.expected_gain, r.log_gain, r.predicted_minutes, r.score,
  NULL, r.hyperparameters
FROM prumux_runners_up r
JOIN prumux_studies st ON st.study_id = r.study_id;
CREATE VIEW prumux_priors AS SELECT
  st.name AS study, p.position AS place, o.name AS prior, COUNT(*) AS num_trials,
  st.prior_at AS chosen_at
FROM prumux_prior_trials p
JOIN prumux_studies st ON st.study_id = p.study_id
JOIN prumux_studies o ON o.study_id = p.prior_id
GROUP BY st.name, p.position, o.name, st.prior_at;
CREATE VIEW prumux_environment AS SELECT st.name AS study, e.number, e.name, e.value
FROM prumux_environments e
JOIN prumux_studies st ON st.study_id = e.study_id;
CREATE VIEW prumux_hyperparameters AS SELECT
  st.name AS study, h.number, s.num_instances, s.sparsity, h.name, h.value, h.is_own
FROM prumux_trial_hyperparameters h
JOIN prumux_studies st ON st.study_id = h.study_id
JOIN prumux_starts s ON s.study_id = h.study_id AND s.number = h.number;
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
