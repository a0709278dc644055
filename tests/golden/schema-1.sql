BEGIN TRANSACTION;
CREATE TABLE prumux_budgets (
	study_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	budget DOUBLE NOT NULL, 
	PRIMARY KEY (study_id, position), 
	FOREIGN KEY(study_id) REFERENCES prumux_studies (study_id)
);
INSERT INTO "prumux_budgets" VALUES(1,0,0.01);
INSERT INTO "prumux_budgets" VALUES(1,1,0.02);
INSERT INTO "prumux_budgets" VALUES(1,2,0.1);
CREATE TABLE prumux_claims (
	study_id INTEGER NOT NULL, 
	num_instances INTEGER NOT NULL, 
	sparsity DOUBLE NOT NULL, 
	worker TEXT NOT NULL, 
	claimed_at TEXT NOT NULL, 
	UNIQUE (study_id, num_instances, sparsity), 
	FOREIGN KEY(study_id) REFERENCES prumux_studies (study_id)
);
INSERT INTO "prumux_claims" VALUES(1,1,0.0,'host:1','2026-11-23T09:44:49.610+00:00');
INSERT INTO "prumux_claims" VALUES(1,2,0.0,'host:1','2026-11-23T09:44:49.817+00:00');
INSERT INTO "prumux_claims" VALUES(1,1,0.6,'host:1','2026-11-23T09:44:49.945+00:00');
INSERT INTO "prumux_claims" VALUES(1,1,0.95,'host:1','2026-11-23T09:44:50.033+00:00');
INSERT INTO "prumux_claims" VALUES(1,2,0.6,'host:1','2026-11-23T09:44:50.145+00:00');
INSERT INTO "prumux_claims" VALUES(1,5,0.0,'host:1','2026-11-23T09:44:50.269+00:00');
INSERT INTO "prumux_claims" VALUES(1,10,0.0,'host:1','2026-11-23T09:44:50.373+00:00');
INSERT INTO "prumux_claims" VALUES(1,2,0.8,'host:1','2026-11-23T09:44:50.461+00:00');
INSERT INTO "prumux_claims" VALUES(1,5,0.6,'host:1','2026-11-23T09:44:50.577+00:00');
INSERT INTO "prumux_claims" VALUES(1,10,0.95,'host:1','2026-11-23T09:44:50.677+00:00');
CREATE TABLE prumux_environments (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (study_id, number, name), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number)
);
INSERT INTO "prumux_environments" VALUES(1,0,'python','3.11.9');
INSERT INTO "prumux_environments" VALUES(1,0,'torch','2.13.0');
INSERT INTO "prumux_environments" VALUES(1,0,'device','cpu');
INSERT INTO "prumux_environments" VALUES(1,0,'num_threads','2');
INSERT INTO "prumux_environments" VALUES(1,1,'python','3.11.9');
INSERT INTO "prumux_environments" VALUES(1,1,'torch','2.13.0');
INSERT INTO "prumux_environments" VALUES(1,1,'device','cpu');
INSERT INTO "prumux_environments" VALUES(1,1,'num_threads','2');
INSERT INTO "prumux_environments" VALUES(1,2,'python','3.11.9');
INSERT INTO "prumux_environments" VALUES(1,2,'torch','2.13.0');
INSERT INTO "prumux_environments" VALUES(1,2,'device','cpu');
INSERT INTO "prumux_environments" VALUES(1,2,'num_threads','2');
INSERT INTO "prumux_environments" VALUES(1,3,'python','3.11.9');
INSERT INTO "prumux_environments" VALUES(1,3,'torch','2.13.0');
INSERT INTO "prumux_environments" VALUES(1,3,'device','cpu');
INSERT INTO "prumux_environments" VALUES(1,3,'num_threads','2');
INSERT INTO "prumux_environments" VALUES(1,4,'python','3.11.9');
INSERT INTO "prumux_environments" VALUES(1,4,'torch','2.13.0');
INSERT INTO "prumux_environments" VALUES(1,4,'device','cpu');
INSERT INTO "prumux_environments" VALUES(1,4,'num_threads','2');
INSERT INTO "prumux_environments" VALUES(1,5,'python','3.11.9');
INSERT INTO "prumux_environments" VALUES(1,5,'torch','2.13.0');
INSERT INTO "prumux_environments" VALUES(1,5,'device','cpu');
INSERT INTO "prumux_environments" VALUES(1,5,'num_threads','2');
INSERT INTO "prumux_environments" VALUES(1,6,'python','3.11.9');
INSERT INTO "prumux_environments" VALUES(1,6,'torch','2.13.0');
INSERT INTO "prumux_environments" VALUES(1,6,'device','cpu');
INSERT INTO "prumux_environments" VALUES(1,6,'num_threads','2');
INSERT INTO "prumux_environments" VALUES(1,7,'python','3.11.9');
INSERT INTO "prumux_environments" VALUES(1,7,'torch','2.13.0');
INSERT INTO "prumux_environments" VALUES(1,7,'device','cpu');
INSERT INTO "prumux_environments" VALUES(1,7,'num_threads','2');
INSERT INTO "prumux_environments" VALUES(1,8,'python','3.11.9');
INSERT INTO "prumux_environments" VALUES(1,8,'torch','2.13.0');
INSERT INTO "prumux_environments" VALUES(1,8,'device','cpu');
INSERT INTO "prumux_environments" VALUES(1,8,'num_threads','2');
CREATE TABLE prumux_failure_causes (
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	cause TEXT NOT NULL, 
	message TEXT NOT NULL, 
	last_accuracy DOUBLE, 
	finished_at TEXT NOT NULL, 
	PRIMARY KEY (study_id, number), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number)
);
INSERT INTO "prumux_failure_causes" VALUES(1,9,'sparsity_not_reached','Pruning reached 0.91 of the requested 0.95.',0.61,'2026-11-23T09:44:50.710+00:00');
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
INSERT INTO "prumux_measurements" VALUES(1,0,0.91,0.0,1000,1,X'FBFDF7FFFFDEFFFFF7FFFEFBFFAF9FCFFFFFEFFFEFFFFFFFCEFFEF7EFFFFEFFDFFFEBFFFFFF7FF7FFFFDFFFFFF7DFFFEFCFFFFFEFF7FB7F9FDFBFFFFFD73FFFFFDFBFFFF7EF3FFF7FFFF3FFBFFFFFFFBFFFFF7FFFF7FFFFFFDFF5FBFBFF7F7FFF7FFF77DF7FFE6FFFFFFDFFFFF9FCFFFFFEFFFFFDFBDFFB3FFF7DFBFDF',0.0,128,'[4, 4, 4, 4]','[512, 512, 512, 512]',786432,1046432,50.0,'checkpoints/n1-s0.0000-0',0,'2026-11-23T09:44:49.747+00:00');
INSERT INTO "prumux_measurements" VALUES(1,1,8.97333333333333427184e-01,1.24721912892464823277e-03,1000,3,X'CFDFF67FFFFFFFEF8F7FFFFFFFFED7FAFFFFCFFFFCFFFFF7FFFFFFFFEFFEFF7FFF5FFFFDFEF7F5FFFFFFFFFFFFFFE7FBFBFFFBFFFFFF4FDFE7E7FFFF6BFEFBF79FFFFFFBF7FBEF7FFCFEFFF7BFF7FDFBFFFFFA7FFBFFF6DFDFEDEFFDF7DFFFFFFDBFFFFFFFEFFD9FFBBFF7FFDEFFFFFF76BBFEFDFFFFEFF7FEFFFFFFFE7EFFFB7E7FFBFFFDFEFF3FFEF7EEFFEFFFFF7FFFE77FDF7FFFBFFF6FFFF7DFFFFFFCDFFFBFD7F7FFFFFFFFFEFFFCFFFFBFFBEFFFEFFFF5EFFFFAFFEFFFEFBFEFDFFFBB7F3FFE7F7F7FFFFF72FFFEFF7FFEFDFFFD7FFEDFFFF8FCFFFE7FF7AFFF7FF7FEBFFFFBDFF9FFFFFAFFFBDFFFF9BFFFFFFEFFFFFDFF7FFFBF7FFDFFFFFFDFF7FFFAFBFFFFFBFFB7EFFFFFEFFFD77BFF7DDF5DFF3FFFFFFFFFBEBBFDFF6F7FFF7FF7FFDAFF7FFFFFFF7F3FDDFDBF7FFFFFFFFFFEFF3BF7EFFBFFEF8FBF7FFFBFFEF7FEFD7FFEFFFE7EFFFFEFD7F7FFFFFDDEF77FDDFFBFFFDFFFEFFFFFBFFFFFF7F7EFFF7EFF7DFFE7EDE77FFFFBFFFEEEFFFFD7FFFFDFDF',0.0,128,'[4, 4, 4, 4]','[512, 512, 512, 512]',786432,1046432,60.0,'checkpoints/n2-s0.0000-0',0,'2026-11-23T09:44:49.850+00:00');
INSERT INTO "prumux_measurements" VALUES(1,2,0.904,0.0,1000,1,X'FFB7FFFFFDFFFBFFFFFFE7E8F77BFFFFFFFFFD97EF7FFFBFFFBFFFFFFFFF37FE6FFFFFFFFBFFF7FDFF57FD7FDBFFFFFFFF3FFFFFDFFBFFEFFFFADF7DBBFFFEEFFDFFBBFFDBF5EBFFF773FDFFFFFFFFEFFFFFFFEFFFFFFFF7FFFDFFFEEFFFFFF7FBDDDF5FFFF7FBAFFEDFEFFF7FBFFFFFFFCF7FDFFFFFFFFFEFFFFCBF7F',0.6,128,'[2, 2, 2, 2]','[205, 205, 205, 205]',314573,574573,50.0,'checkpoints/n1-s0.6000-0',0,'2026-11-23T09:44:49.966+00:00');
INSERT INTO "prumux_measurements" VALUES(1,3,0.862,0.0,1000,1,X'F77BFF5EEDFFFFFDDFFDFFFFA9F6E9FFFFDBFFFD67FFFFFBBEEDDFFFAFFFF7FFFFFF3EBFF9F9AFFFF7FFF7FF6FAFBFFFDFFFBFFCDFFF7D75BFFBEF777EFFEFFFFFE7FFFBFDBDFFEFEBFBBFBBE1FEF5FFFDFFFFBFAF7BFB7FFDF5DFEFDFFBFBF7FD5FBFF7FFFD2DFFFD6FFFF5BFFFDFFFF7FFFFE7FDECFDBEFDFEF7FBFF',0.95,128,'[1, 1, 1, 1]','[26, 26, 26, 26]',39322,299322,50.0,'checkpoints/n1-s0.9500-0',0,'2026-11-23T09:44:50.137+00:00');
INSERT INTO "prumux_measurements" VALUES(1,4,8.8866666666666660479e-01,1.24721912892464823277e-03,1000,3,X'7BEF7FFFBFDFFFFBFFC6FFFFFF7FFFFFBFF93FCFFBDFFF7F7FEFDFF7FF7FAFFFFBB7FFEFDDFFFDFFBDFAFFFFEFFFD7FFBFBFEFFFFBBFFFF7FFDFFBFEFFFF7C7FBFFD777FFDEFFFFBAEFFFFD3DDFFFFF7F7FFFFFD7FFBFDAFFFBFF67FFFFDFFFDEFFFF7FF7DFFFFFFFBF3FF2B77FFF7FBFFFFF9FDFDFFF5FAFFFFFEFFFEDBFFFFD7FFFFBFF9FEFDBFF7FB7FFFFFFF77BDFB797FBBFFFEF757FDFFFFFFFFFFC7FF3BFFBF7FDDFFFBFEF7B7FFFF9FFBFDEFEFDDFFFEFFFBAFFBBEFEFEFFEF77BFF7BFEFEFDFFFBFFFDAFFF7FFFFFED6FFFBFFFDBE7FFDFBEFDDFFDDFFFFFFFFDFFFFBFFEFFF7DF7FFFBFFFFFEFFEEF7FFBFF77FFFED7BFFFDAFFFFFF9FFF6FFE77FF3BFF7FFFFFEFF9F6FFFCFDF7FFDEFFFDFFFAADFFEFFFF7DFEEBFFFDFF7DF7EFFFFBFFBDFFFFD7EFBEFDFEF5FF6FFFFEFDBFBFB7FFFFF7DBFFAFFFFFFFFFEFFFDFFFFFFDFFFFFFFFFFDBFFFFF7FEFEBFFFFF7AEFFFFFFFDFBFFFFEFDFFFFBFF7FDFFF9EFEBFF7EF1F7FFFF6C7EFF7EDFF7F7FFFFFB5F7F',0.6,128,'[2, 2, 2, 2]','[205, 205, 205, 205]',314573,574573,60.0,'checkpoints/n2-s0.6000-0',0,'2026-11-23T09:44:50.227+00:00');
INSERT INTO "prumux_measurements" VALUES(1,5,0.859,8.16496580927726818555e-04,1000,3,X'FFFEAFFBF7D6FFFEFFABFFFBE7FDFFFFFFEFBFBFAFFEFF7FD6FFBFEFFFDFFFFFFFDEFDFFFFB7ECC5FF3FFEFFDF5DEFFDFF7FF5FFBFEF9FFFDFBFFFF9F7FF9BE7FFBFFFBFBF47F76FF7FE73F53FF6FFFDDFDFFEB37FF6B7E7DBDFFB5FFDAFF5DFCFF7FFFBFFDF77FF6FBFFFEE7FF6FDFFFFFFBFFFE3FFFFBDF5F7FFFEDFDDF7BFFFBEFCFF3DFFF7E57BFAFFBFF57F7FFEFFFFF77DFAE3EFA77F7FFFFFEBBFFFBF76FFF5FF77FF1F7FFFF5DBFFFF9FDBFFFFDFBBFBBCDFFEF3DEFBFD7FD7FFF2FF7FDFEFFFF7E7FFDDFB9DFDFEFFFFFFDBFFF6EE7FEBFFFFFFFFBFEFFFCBFDFFFFFEFEFFBFEFFFEFFFD4FFFDBFEFFDDF7DFBFEBD77F9EEFBEFEFFEF3FFFDFFFEBFD7FEFFFF7F3AEFFF7D3FFFEEF3BDDADED7FBAFDFFFFF9FD7FFFDFFDFEFB3FFFBFBFBDFFDFFEFAFFFEEF7F3FB7FFFFE7F6FFFDFF7FFFAFFFBFEED7FF9DDFFBFFFFFFFF779BDDFFFFFFFBF7BDF47EFF7CEFF7FFBFB76FFDFEFFFFFDDDDFFDFFEF7FFBDFD7CBBFBFDFFFFFDFDCDFFFFFEFEEF7DFF7BBFED6F',0.0,128,'[4, 4, 4, 4]','[512, 512, 512, 512]',786432,1046432,90.0,'checkpoints/n5-s0.0000-0',0,'2026-11-23T09:44:50.331+00:00');
INSERT INTO "prumux_measurements" VALUES(1,6,7.93333333333333445835e-01,1.24721912892464823277e-03,1000,3,X'ECBFF4FCADFF4DDBF71FDFBDABF7F77BFB4FFBF97FFFFFFDEEFE1BFC7BBE5DBF8B7DFFDDF7FFAEFB6F66FF67AFBD9C7FFFFEDFDFEF7EF3FD8BEF7FFFFE7FFF576EF7FF3F9E3EFFFFFFD75FFFC75F9BEFAFDEFFC7DFF6BFDFABFFD4FF7DDFEFBDAEBE3EF7FBFF6FFFDCBBFDF7EEF64FFFD5FBB7FBFEF7F6BD75FF2FF6AFBD7FEDEFFEBDFBF6CE6BFEEFFADBBFFB1DFFEFFFFDFEFDFDDB3FBBDD9DFFE6FDB79DFFFFFFDADDFF5E3EDFB2D9DFF7637BFF5FBFBF7EFFFFF7F97DCFEB7CF75EBEFFFEFFFEFB9FF7BEAFFBF7FFFEE7F9FFF7BBF9FDFFD6F7DE1CFDFF6B7FFDFB7B7EFFFFFAFCF793B75FF8F2E7BFDFFFFE6C376857FEBFE7FF8ABD7E7ED7FFFE5A1F56BB7F6F77BC7FBEFFFBFFFEBD6EDCECF7EFBFBBF7CFEEFB97DFDFAFFFFDFBF73EFDF7F6B5BFC770DFB67D9BF517DFF9BFF75FF7DFB7FD2DFFEFBFF7DB3EDFE5FFBEFABFFFCFBFFF6B7CF3BFA3FE6EBEE9F5FFFF3EF7BEDBFFB7FBEFE6FFFFEFFFFFDFFBFE7DFB1F5FB1BF7BFF7CF7AF3FCFEDFBFBEBFBDF',0.0,128,'[4, 4, 4, 4]','[512, 512, 512, 512]',786432,1046432,140.0,'checkpoints/n10-s0.0000-0',0,'2026-11-23T09:44:50.422+00:00');
INSERT INTO "prumux_measurements" VALUES(1,7,8.73333333333333405867e-01,4.714045207910320728e-04,1000,3,X'DFFFFFBDEFEFFFEFFFF66FFFFFFFEFE9FFFFFFDFBFFF7FFF6FFFFE7FF5FFF7FFFBFFAF6FFFF5FFFFFF6DF9FFBFDFEF7BB2FFDFFCFFBF7BFFFFFFD7FDFDBFFF7FF5FFBBFEFFFFFBFDE7FAFFFBF7FFFCDABBFF5FFFB7BDDFB6FDFFF6FDAFEFFBFDFFFFFFFFF7FBFDDFFBF7B5FFDFBFBCFFFFFFBF6F7F77DFBF7DFEBBCF6FFBF7FFFFEFF77FFFFFBFB3FD6FFFBFFFEFBFF7FFDF7FFFFE9A7FF7FFEFFFF7FFFFEFF7FFFFFFEFF9FFBFAFFFDAFDFB3FFEFBDA72FFDEFFFFDBFF7FBFE7FFF7FFFF7FFFFFDFFB37FFFD9FFF7EEFFFFFEBFFFFCFF7DFFFFFFBFFF717E3EBBFEFFFFDEBEFBDF77FD5DFA5FEF7FD7FEFFFFFFBFFB7AF7FFDFFF7FED7FF97FFEBFFCFFFFFFDFFFFFF7FFFBF7F7BFEFFEEFFF7FDFF9EFFFFFFFF5FBFFFFEFD6EF9FFFFDFBF6F77DAFF6B3FAFFF9FFFFFFECBBFEFFFFFBBFBBFFFEBFDEFFF3F7FDFCBFEB7FFF9FDFFFFB6DFDEFFFFF6EFFFF7FBFFDEFCFFFFFFFEB79FEEFFFFF77F7FF6EFBFEAFFFFFFFAF7DBFF7FFCFFFF6F7BFFFFF3FF53FEFBFFFF7E',0.8,128,'[1, 1, 1, 1]','[102, 102, 102, 102]',157286,417286,60.0,'checkpoints/n2-s0.8000-0',0,'2026-11-23T09:44:50.519+00:00');
INSERT INTO "prumux_measurements" VALUES(1,8,8.49666666666666681173e-01,1.69967317119759631603e-03,1000,3,X'5D737FFFAEFFFFFF7B7F7BCFF787BCFADF7FFCFEBBF7FFF7FDF7E877DFFDEFEDFEFFDDDBEF5FFFF3D5B9F1DFFFF77EFEFFFFFFDFFBFEDFF3FFFBFF5FF6FCBFFFDFF7BBBFFFFFDFF7FFFDFFEFEFDFCDBEF7EFEFE7D7FE8FFF7EFFFDFE7FDFFF7FFF5D7FFF6F7BF7FDEBFEDFE5F7EFFFFFFF7FEFEFFCFFFBF7FFFEEFFFF5BE7FFFFBFFAFFF97FE4FFE7BCFFFFFEFBDF9E77BDEBB57FFFF7FBEFFB7DBBBFFFFFEEFFFFBBFBFBEBF7F97FBF77FFEFFD7FDEFF97FFFD7FFFFFFB7FFFFFFFDEFF6FEFFFFF7DFFFFDD7DFF7FF6F5FB9DFBFFFFFB6BBFFFBFFDF96FFFF7E7F3FEB5F7F4DFFFFDF7FEB9DC7FDEFFF7DFFFFFF27EFB77FFAEEFF6DF6FFFFDFAFFF3FEFEFFF9F7FFBFFDFFFBF3DFFFF5FDEFED7F1FBF7FD3FBFF3DFFFBFFBCFF7DFEFF6BBFBEFFEF7DFDEFB6CFFF79FF7FFFF7FBAFFFDDF5FF7BFFFFFD7EFFF7FFDDFFFFBBFFF6EFD757FF5BE377EFF9A5F75DBFFDFFDFFFDFEAEFEFFFFBFFDB67FEF3FFFB7FF7FFBFBBFFFFBF9FF7BFFBBFFFFFFFBEDDDBFD6E5CFFB',0.6,128,'[2, 2, 2, 2]','[205, 205, 205, 205]',314573,574573,90.0,'checkpoints/n5-s0.6000-0',0,'2026-11-23T09:44:50.626+00:00');
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
INSERT INTO "prumux_phase_history" VALUES(1,0,0,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,0,0,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,0,0,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,1,0,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,1,0,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,1,0,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,1,1,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,1,1,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,1,1,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,2,0,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,2,0,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,2,0,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,2,1,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,2,1,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,2,1,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,2,2,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,2,2,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,2,2,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,3,0,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,3,0,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,3,0,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,3,1,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,3,1,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,3,1,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,3,2,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,3,2,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,3,2,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,4,0,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,4,0,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,4,0,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,4,1,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,4,1,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,4,1,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,4,2,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,4,2,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,4,2,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,4,3,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,4,3,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,4,3,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,5,0,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,5,0,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,5,0,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,5,1,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,5,1,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,5,1,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,6,0,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,6,0,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,6,0,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,6,1,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,6,1,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,6,1,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,7,0,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,7,0,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,7,0,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,7,1,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,7,1,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,7,1,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,7,2,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,7,2,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,7,2,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,7,3,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,7,3,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,7,3,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,8,0,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,8,0,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,8,0,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,8,1,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,8,1,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,8,1,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,8,2,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,8,2,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,8,2,2,'loss',0.31,400);
INSERT INTO "prumux_phase_history" VALUES(1,8,3,0,'loss',0.69,100);
INSERT INTO "prumux_phase_history" VALUES(1,8,3,1,'held_out_accuracy',0.84,100);
INSERT INTO "prumux_phase_history" VALUES(1,8,3,2,'loss',0.31,400);
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
INSERT INTO "prumux_phases" VALUES(1,0,0,'finetune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,1,0,'prime',400,12.5,812.0,1);
INSERT INTO "prumux_phases" VALUES(1,1,1,'finetune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,2,0,'finetune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,2,1,'prune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,2,2,'finetune_pruned',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,3,0,'finetune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,3,1,'prune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,3,2,'finetune_pruned',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,4,0,'prime',400,12.5,812.0,1);
INSERT INTO "prumux_phases" VALUES(1,4,1,'finetune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,4,2,'prune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,4,3,'finetune_pruned',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,5,0,'prime',400,12.5,812.0,1);
INSERT INTO "prumux_phases" VALUES(1,5,1,'finetune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,6,0,'prime',400,12.5,812.0,1);
INSERT INTO "prumux_phases" VALUES(1,6,1,'finetune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,7,0,'prime',400,12.5,812.0,1);
INSERT INTO "prumux_phases" VALUES(1,7,1,'finetune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,7,2,'prune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,7,3,'finetune_pruned',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,8,0,'prime',400,12.5,812.0,1);
INSERT INTO "prumux_phases" VALUES(1,8,1,'finetune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,8,2,'prune',400,12.5,812.0,0);
INSERT INTO "prumux_phases" VALUES(1,8,3,'finetune_pruned',400,12.5,812.0,0);
CREATE TABLE prumux_schema_version (
	version INTEGER NOT NULL, 
	views_hash TEXT NOT NULL, 
	changed_at TEXT NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "prumux_schema_version" VALUES(1,'db1c92f594d3ba8a','2026-11-23T09:44:49.308+00:00');
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
	PRIMARY KEY (study_id, number), 
	FOREIGN KEY(study_id) REFERENCES prumux_studies (study_id)
);
INSERT INTO "prumux_starts" VALUES(1,0,1,0.0,0,'the dense baseline is always first',NULL,1.0,NULL,1.1,NULL,'2026-11-23T09:44:49.657+00:00');
INSERT INTO "prumux_starts" VALUES(1,1,2,0.0,0,'chance 0.82 to meet 2.0 points',0.82,1.80250092522166038833e+00,0.4,1.1,0.36,'2026-11-23T09:44:49.841+00:00');
INSERT INTO "prumux_starts" VALUES(1,2,1,0.6,0,'chance 0.82 to meet 2.0 points',0.82,1.81818181818181812126e+00,0.4,1.1,0.36,'2026-11-23T09:44:49.957+00:00');
INSERT INTO "prumux_starts" VALUES(1,3,1,0.95,0,'chance 0.82 to meet 2.0 points',0.82,3.47826086956521640658e+00,0.4,1.1,0.36,'2026-11-23T09:44:50.093+00:00');
INSERT INTO "prumux_starts" VALUES(1,4,2,0.6,0,'chance 0.82 to meet 2.0 points',0.82,3.27727440949392789804e+00,0.4,1.1,0.36,'2026-11-23T09:44:50.189+00:00');
INSERT INTO "prumux_starts" VALUES(1,5,5,0.0,0,'chance 0.82 to meet 2.0 points',0.82,3.92757515115882149814e+00,0.4,1.1,0.36,'2026-11-23T09:44:50.317+00:00');
INSERT INTO "prumux_starts" VALUES(1,6,10,0.0,0,'chance 0.82 to meet 2.0 points',0.82,7.0794578438413786614e+00,0.4,1.1,0.36,'2026-11-23T09:44:50.417+00:00');
INSERT INTO "prumux_starts" VALUES(1,7,2,0.8,0,'chance 0.82 to meet 2.0 points',0.82,4.50625231305415230309e+00,0.4,1.1,0.36,'2026-11-23T09:44:50.509+00:00');
INSERT INTO "prumux_starts" VALUES(1,8,5,0.6,0,'chance 0.82 to meet 2.0 points',0.82,7.1410457293796749667e+00,0.4,1.1,0.36,'2026-11-23T09:44:50.621+00:00');
INSERT INTO "prumux_starts" VALUES(1,9,10,0.95,0,'chance 0.21 to meet 10.0 points',0.21,NULL,NULL,NULL,0.1,'2026-11-23T09:44:50.701+00:00');
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
	PRIMARY KEY (study_id), 
	UNIQUE (name)
);
INSERT INTO "prumux_studies" VALUES(1,'qnli-embedded','qnli','{"search": {"sparsities": [0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95], "widths": [1, 2, 5, 10]}, "seed": 0, "trainer": {"finetune": {"num_updates": 400}, "task": "qnli"}}','2a97516c354b68848cdbd8f54a226a0a55b21ed138e207ad6c5cbb9c00aa5aea','builtin:qnli:0123abcd',0,'2026-11-23T09:44:49.515+00:00','2026-11-23T09:44:49.515+00:00');
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
	PRIMARY KEY (study_id, number, position), 
	FOREIGN KEY(study_id, number) REFERENCES prumux_starts (study_id, number)
);
INSERT INTO "prumux_throughputs" VALUES(1,0,0,1200.0,1200.0,1200.0,1200.0,1.0,1.0,1.0,20,64,32,'float32','cpu',2);
INSERT INTO "prumux_throughputs" VALUES(1,1,0,2.16300111026599233801e+03,2.11974108806067260959e+03,2.20626113247131252137e+03,1200.0,1.80250092522166038833e+00,1.76645090671722715391e+00,1.83855094372609362274e+00,20,64,32,'float32','cpu',2);
INSERT INTO "prumux_throughputs" VALUES(1,2,0,2.18181818181818152875e+03,2.13818181818181801646e+03,2.22545454545454549598e+03,1200.0,1.81818181818181812126e+00,1.78181818181818174551e+00,1.854545454545454497e+00,20,64,32,'float32','cpu',2);
INSERT INTO "prumux_throughputs" VALUES(1,3,0,4173.91304347826,4.09043478260869460428e+03,4.25739130434782509816e+03,1200.0,3.47826086956521640658e+00,3.40869565217391201628e+00,3.54782608695652079688e+00,20,64,32,'float32','cpu',2);
INSERT INTO "prumux_throughputs" VALUES(1,4,0,3.93272929139271354859e+03,3.85407470556485941427e+03,4.01138387722056768318e+03,1200.0,3.27727440949392789804e+00,3.21172892130404941113e+00,3.34281989768380638494e+00,20,64,32,'float32','cpu',2);
INSERT INTO "prumux_throughputs" VALUES(1,5,0,4.71309018139058571268e+03,4.6188283777627739254e+03,4.80735198501839659009e+03,1200.0,3.92757515115882149814e+00,3.84902364813564501488e+00,4.0061266541819975373e+00,20,64,32,'float32','cpu',2);
INSERT INTO "prumux_throughputs" VALUES(1,6,0,8.49534941260965388229e+03,8.3254424243574612777e+03,8.66525640086184830573e+03,1200.0,7.0794578438413786614e+00,6.93786868696455094607e+00,7.22104700071820637674e+00,20,64,32,'float32','cpu',2);
INSERT INTO "prumux_throughputs" VALUES(1,7,0,5.40750277566498243697e+03,5.29935272015168266088e+03,5.5156528311782831225e+03,1200.0,4.50625231305415230309e+00,4.41612726679306888399e+00,4.59637735931523572219e+00,20,64,32,'float32','cpu',2);
INSERT INTO "prumux_throughputs" VALUES(1,8,0,8569.25487525561,8.39786977775049672378e+03,8.74063997276072223059e+03,1200.0,7.1410457293796749667e+00,6.99822481479208136079e+00,7.28386664396726857262e+00,20,64,32,'float32','cpu',2);
CREATE VIEW prumux_trials AS WITH base AS (
  SELECT s.study_id, m.accuracy
  FROM prumux_starts s
  JOIN prumux_measurements m ON m.study_id = s.study_id AND m.number = s.number
  WHERE s.number = (
    SELECT MAX(s2.number)
    FROM prumux_starts s2
    JOIN prumux_measurements m2 ON m2.study_id = s2.study_id AND m2.number = s2.number
    WHERE s2.study_id = s.study_id AND s2.num_instances = 1 AND s2.sparsity = 0
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
  m.checkpoint AS checkpoint
FROM prumux_starts s
JOIN prumux_studies st ON st.study_id = s.study_id
LEFT JOIN prumux_measurements m ON m.study_id = s.study_id AND m.number = s.number
LEFT JOIN prumux_throughputs t
  ON t.study_id = s.study_id AND t.number = s.number AND t.position = 0
LEFT JOIN prumux_failure_causes f ON f.study_id = s.study_id AND f.number = s.number
LEFT JOIN base ON base.study_id = s.study_id;
CREATE VIEW prumux_front AS SELECT
  t.study, t.number, t.num_instances, t.sparsity, t.sparsity_achieved, t.accuracy,
  t.accuracy_loss_points, t.throughput, t.speedup, t.duration_s, t.device, t.task, t.checkpoint
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
    )
);
CREATE VIEW prumux_best_by_budget AS SELECT
  r.study, r.budget_points, r.number, r.num_instances, r.sparsity, r.sparsity_achieved,
  r.accuracy, r.accuracy_loss_points, r.throughput, r.speedup, r.device, r.task, r.checkpoint
FROM (
  SELECT
    st.name AS study,
    CAST(ROUND(CAST(100.0 * (b.budget) AS NUMERIC), 9) AS DOUBLE PRECISION) AS budget_points,
    t.number, t.num_instances, t.sparsity, t.sparsity_achieved, t.accuracy,
    t.accuracy_loss_points, t.throughput, t.speedup, t.device, st.task AS task, t.checkpoint,
    ROW_NUMBER() OVER (
      PARTITION BY b.study_id, b.position
      ORDER BY t.speedup DESC, t.accuracy DESC, t.num_instances, t.sparsity
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
  s.reason, s.seed, st.task AS task, s.started_at, f.finished_at
FROM prumux_failure_causes f
JOIN prumux_starts s ON s.study_id = f.study_id AND s.number = f.number
JOIN prumux_studies st ON st.study_id = f.study_id;
CREATE VIEW prumux_environment AS SELECT st.name AS study, e.number, e.name, e.value
FROM prumux_environments e
JOIN prumux_studies st ON st.study_id = e.study_id;
COMMIT;
